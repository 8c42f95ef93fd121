#!/usr/bin/env bash
# curl, and a shell that reads its lines: data is JSON as it stands, ids and kinds need no quoting.
set -u
export LC_ALL=C # a line is bytes, whatever the characters are
url=$1 job=$2 cursor=${3:-}
pause_s=1 has_end=

while [ -z "$has_end" ]; do
    id= kind= data=
    # What a cut leaves unfinished has no blank line behind it, so it is dropped.
    while IFS= read -r line; do
        case $line in
            "id: "*) id=${line#id: } ;;
            "event: "*) kind=${line#event: } ;;
            "data: "*) data=${line#data: } ;;
            "retry: "*) pause_s=$(printf '%d.%03d' $((${line#retry: } / 1000)) $((${line#retry: } % 1000))) ;;
            "")
                printf '{"id":"%s","kind":"%s","data":%s}\n' "$id" "$kind" "$data"
                cursor=$id
                [ "$kind" = end ] && has_end=yes
                kind= data=
                ;;
        esac
    done < <(curl -sN --fail --speed-limit 1 --speed-time 45 "$url/jobs/$job/stream" \
        ${RANKCAST_KEY:+-H "Authorization: Key $RANKCAST_KEY"} ${cursor:+-H "Last-Event-ID: $cursor"})
    [ -n "$has_end" ] || sleep "$pause_s"
done
echo '{"ended":"at its end event"}'
