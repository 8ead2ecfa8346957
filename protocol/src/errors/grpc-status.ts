/**
 * Errors on the wire. A CollectiveError travels as a Failure message, in streams as it is and in unary calls beside a gRPC
 * status; the code survives, causes stay where they arose (they may name files of the server). A status that did not come
 * from our code gets the code that its number says. Also the table from code to errno number that file systems answer.
 */
import { constants } from 'node:os';
import { CollectiveError, ERROR_CODES, type ErrorCode, isErrorCode, toCollectiveError } from '@collective/base/errors';
import { Metadata, type ServiceError, type StatusObject, status } from '@grpc/grpc-js';
import { Failure } from '../gen/common.ts';

const FAILURE_KEY = 'collective-failure-bin';
const MESSAGE_CHARACTERS_MAX = 2_000;
const DETAILS_MAX = 20;

export function toFailure(thrown: unknown, whileDoing: string): Failure {
  const error = toCollectiveError(thrown, whileDoing);
  const details: Record<string, string> = {};
  for (const [name, value] of Object.entries(error.details).slice(0, DETAILS_MAX))
    details[name] = String(value).slice(0, MESSAGE_CHARACTERS_MAX);
  return { code: error.code, message: error.message.slice(0, MESSAGE_CHARACTERS_MAX), details };
}

/** A code of a newer version than ours is an internal failure with its text kept. */
export function fromFailure(failure: Failure): CollectiveError {
  const code: ErrorCode = isErrorCode(failure.code) ? failure.code : 'internal';
  return new CollectiveError(code, code === failure.code ? failure.message : `${failure.message} [${failure.code}]`, {
    details: { ...failure.details },
  });
}

export function toStatus(thrown: unknown, whileDoing: string): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const failure = toFailure(thrown, whileDoing);
  const metadata = new Metadata();
  metadata.set(FAILURE_KEY, Buffer.from(Failure.encode(failure).finish()));
  return { code: statusOf(isErrorCode(failure.code) ? failure.code : 'internal'), details: failure.message, metadata };
}

/** Throw or emit this in a gRPC handler. */
export function toServiceError(thrown: unknown, whileDoing: string): ServiceError {
  const found = toStatus(thrown, whileDoing);
  return Object.assign(new Error(found.details, { cause: thrown }), found);
}

/** What a gRPC call of ours failed with. */
export function fromServiceError(thrown: unknown, whileDoing: string): CollectiveError {
  if (thrown instanceof CollectiveError || !isServiceError(thrown)) return toCollectiveError(thrown, whileDoing);
  const bytes = thrown.metadata?.get(FAILURE_KEY)[0];
  if (Buffer.isBuffer(bytes)) {
    try {
      return fromFailure(Failure.decode(bytes));
    } catch (cause) {
      return new CollectiveError('internal', `${whileDoing}: the answer carries a failure that cannot be read`, {
        cause,
      });
    }
  }
  return new CollectiveError(codeOfStatus(thrown.code), `${whileDoing}: ${thrown.details}`, { cause: thrown });
}

/** The number of the errno that a file system answers, on this platform. */
export function errnoOf(code: ErrorCode): number {
  const name = ERROR_CODES[code].errno;
  return errnoNumbers[name] ?? constants.errno.EIO;
}

export function statusOf(code: ErrorCode): status {
  return statusNumbers[ERROR_CODES[code].grpc] ?? status.INTERNAL;
}

const errnoNumbers: Readonly<Record<string, number>> = constants.errno as unknown as Readonly<Record<string, number>>;
const statusNumbers: Readonly<Record<string, status>> = status as unknown as Readonly<Record<string, status>>;

function isServiceError(thrown: unknown): thrown is ServiceError {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'number' && 'details' in thrown;
}

function codeOfStatus(code: status): ErrorCode {
  switch (code) {
    case status.CANCELLED:
      return 'interrupted';
    case status.INVALID_ARGUMENT:
    case status.OUT_OF_RANGE:
      return 'invalid_argument';
    case status.DEADLINE_EXCEEDED:
      return 'deadline_exceeded';
    case status.NOT_FOUND:
      return 'not_found';
    case status.ALREADY_EXISTS:
      return 'exists';
    case status.PERMISSION_DENIED:
      return 'permission_denied';
    case status.UNAUTHENTICATED:
      return 'unauthenticated';
    case status.RESOURCE_EXHAUSTED:
      return 'overloaded';
    case status.UNIMPLEMENTED:
      return 'unsupported';
    case status.UNAVAILABLE:
      return 'unavailable';
    default:
      return 'internal';
  }
}
