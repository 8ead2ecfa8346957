/** Assertions stay in production: a broken invariant ends the process, a bad world is an ordinary error. */
export class AssertionFailure extends Error {
  override readonly name = 'AssertionFailure';
}

export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new AssertionFailure(`Invariant broken: ${what}`);
}

export function assertNever(value: never, what: string): never {
  throw new AssertionFailure(`Invariant broken: ${what} has the unknown value ${JSON.stringify(value)}`);
}
