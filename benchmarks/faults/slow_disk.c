/* A disk that takes its time: every fdatasync lasts DELAY_US longer. Preloaded into the server. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

#define DELAY_US 1800000

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    usleep(DELAY_US);
    return real(fd);
}
