/**
 * What an apiserver refused, or that it could not be asked. `status` and `reason` are the server's own words (404 NotFound,
 * 409 Conflict, 410 Expired); status 0 means that there was no answer, and the reason says why. The code is ours, so that
 * logs and exit codes are those of every other error. Decide on status, reason and code, never on message text.
 */
import { CollectiveError, type ErrorCode, errorChain } from '@collective/base/errors';

/** Why there was no answer. */
export const NO_ANSWER = {
  /** Nothing was sent: refused, no route, no such host, a certificate that is not trusted. Safe to try again. */
  notConnected: 'NotConnected',
  /** The connection broke after something was sent: whether it was done is not known. */
  connectionLost: 'ConnectionLost',
  /** No answer within our own deadline; whether it was done is not known. */
  timeout: 'NoAnswerInTime',
  /** An answer that is no Kubernetes API, or larger than any object may be. */
  unreadable: 'UnreadableAnswer',
} as const;

export interface KubeFailure {
  /** HTTP status; 0: no answer. */
  readonly status: number;
  readonly reason: string;
  /** The server's sentence. */
  readonly message?: string;
  /** The server asked not to be called sooner. */
  readonly retryAfterMs?: number;
  /** Of a 404: no object of that name, or nothing at all where the kind should be. */
  readonly missing?: 'object' | 'kind';
  readonly cause?: unknown;
}

export class KubeError extends CollectiveError {
  readonly status: number;
  readonly reason: string;
  readonly retryAfterMs: number | undefined;
  readonly missing: 'object' | 'kind' | undefined;

  /** `what` was asked, e.g. "Apply configmaps members/settings". */
  constructor(what: string, { status, reason, message, retryAfterMs, missing, cause }: KubeFailure) {
    const answer = status === 0 ? reason : `${status} ${reason}`;
    const advice = ADVICE[status];
    super(codeOf(status, reason), `${what}: ${answer}${message === undefined ? '' : `: ${message}`}`, {
      details: { status, reason },
      ...(cause === undefined ? {} : { cause }),
      ...(advice === undefined ? {} : { todo: advice }),
    });
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
    this.missing = missing;
  }

  /** 404: no such object, or no such kind (its CRD is not installed): `missing` says which. */
  get isNotFound(): boolean {
    return this.status === 404;
  }

  /** 409: the object is not the one (uid), or no longer as it was (resourceVersion), or is there already. */
  get isConflict(): boolean {
    return this.status === 409;
  }

  /** 410: what a watch or a page would go on from is forgotten; list again. */
  get isGone(): boolean {
    return this.status === 410;
  }

  /** 403: rights, a quota, or an admission policy; the message says which. */
  get isForbidden(): boolean {
    return this.status === 403;
  }

  /** Refused for what it says: the same again is refused again until something else changes. */
  get isRefusal(): boolean {
    return REFUSALS.has(this.status);
  }

  /** 500: who is asked about objects of this kind (an admission webhook) does not answer; other kinds are not concerned. */
  get isUnjudged(): boolean {
    return this.status === 500;
  }
}

export function isKubeError(thrown: unknown): thrown is KubeError {
  return thrown instanceof KubeError;
}

/** A failure of the connection, told by what Node threw. */
export function noAnswer(what: string, thrown: unknown, connected: boolean): KubeError {
  if (thrown instanceof KubeError) return thrown;
  return new KubeError(what, {
    status: 0,
    reason: connected ? NO_ANSWER.connectionLost : NO_ANSWER.notConnected,
    message: errorChain(thrown).join(': '),
    cause: thrown,
  });
}

const REFUSALS: ReadonlySet<number> = new Set([400, 403, 404, 405, 413, 415, 422]);

const CODES: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid_argument',
  401: 'unauthenticated',
  403: 'permission_denied',
  404: 'not_found',
  405: 'unsupported',
  409: 'busy',
  410: 'stale',
  413: 'range',
  415: 'unsupported',
  422: 'invalid_argument',
  429: 'overloaded',
  504: 'deadline_exceeded',
};

/** Where the catalogue's advice speaks of files or of a member, an apiserver's error needs its own. */
const ADVICE: Readonly<Record<number, string>> = {
  0: 'Check that the apiserver runs and that this process reaches it.',
  401: 'Check the token or client certificate that this process was given.',
  403: 'Give the account the right that the message names (its Role or ClusterRole), or raise the quota that it names.',
  404: 'Check that the object is there; where the kind is not found, install its CustomResourceDefinition.',
  409: 'Nothing; it is looked at again and tried again.',
  410: 'Nothing; it is listed again.',
  429: 'Nothing; it is tried again. If it stays, look at the flow schemas of the apiserver.',
};

function codeOf(status: number, reason: string): ErrorCode {
  if (status === 0) return reason === NO_ANSWER.timeout ? 'deadline_exceeded' : 'unavailable';
  if (reason === 'AlreadyExists') return 'exists';
  return CODES[status] ?? (status >= 500 ? 'unavailable' : 'internal');
}
