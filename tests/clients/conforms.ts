/** Compiles only if rankcast.js is what rankcast.d.ts declares. `actual.d.ts` is what the compiler
 * finds in the module itself; test_types.py makes it. */
import type * as Actual from "./actual.d.ts";
import type * as Declared from "./rankcast.d.ts";

/** What comes out of each class; users make none of them but Client. */
type Given<Module> = {
  [Name in keyof Module]: Module[Name] extends abstract new (...given: any) => infer Instance ? Instance : Module[Name];
};

declare const actual: Given<typeof Actual>;
declare const ActualClient: typeof Actual.Client;

// Whatever is declared is there, and fits.
export const declared: Given<typeof Declared> = actual;
export const Client: new (...given: ConstructorParameters<typeof Declared.Client>) => Declared.Client = ActualClient;

// Nothing is there that is not declared: no name, and no member.
type More<There, Known> = Exclude<keyof There, keyof Known>;
type Members<There, Known> = { [Name in keyof There]: More<There[Name], Known[Name & keyof Known]> }[keyof There];
type Undeclared =
  | More<typeof Actual, typeof Declared>
  | Members<Given<typeof Actual>, Given<typeof Declared>>
  | More<ReturnType<Actual.Client["job"]>, Declared.Job>;
declare const undeclared: Undeclared;
export const nothing: never = undeclared;
