/**
 * The one error class of the product. The message says what was being done and to what; the code says what kind of
 * failure it was; the cause stays a cause and is not pasted into the message.
 */
import { ERROR_CODES, type ErrorCode } from './codes.ts';

export class CollectiveError extends Error {
  override readonly name = 'CollectiveError';
  readonly code: ErrorCode;
  /** Facts for programs: names, sizes, addresses. Never secrets. */
  readonly details: Readonly<Record<string, string | number>>;

  /** What the reader can do about it: the catalogue's advice, unless who threw it knows better. */
  readonly todo: string;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Readonly<Record<string, string | number>>; todo?: string } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
    this.todo = options.todo ?? ERROR_CODES[code].todo;
  }
}

/** Wraps whatever was thrown, keeping a CollectiveError as it is. */
export function toCollectiveError(thrown: unknown, whileDoing: string, code: ErrorCode = 'internal'): CollectiveError {
  if (thrown instanceof CollectiveError) return thrown;
  return new CollectiveError(code, whileDoing, { cause: thrown });
}

/** The messages of an error and all its causes, outermost first; at most 10, so that a circle ends. */
export function errorChain(thrown: unknown): string[] {
  const chain: string[] = [];
  let current: unknown = thrown;
  while (current !== undefined && current !== null && chain.length < 10) {
    if (current instanceof CollectiveError) chain.push(`${current.message} [${current.code}]`);
    else if (current instanceof Error) chain.push(current.message);
    else chain.push(String(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return chain;
}
