/**
 * When a call that failed is made again, and how long after. What the server turned away unseen (429, or 5xx with Retry-After)
 * may always be repeated; after a lost connection or a proxy's 5xx only what does the same when done twice. All else, and all
 * that goes on failing, is the caller's: it looks again before it acts again.
 */
import { type Random, randomUnit } from '@collective/base/random';
import { type KubeError, NO_ANSWER } from './kube-error.ts';

export const TRIES_MAX = 5;
/** A server that wants more time than this gets it from the caller's own backoff. */
export const RETRY_AFTER_MAX_MS = 10_000;
const FIRST_DELAY_MS = 100;
const DELAY_MAX_MS = 3_000;
const PASSING: ReadonlySet<number> = new Set([502, 503, 504]);

export interface FailedTry {
  readonly error: KubeError;
  /** Doing it twice gives the same. */
  readonly repeatable: boolean;
  /** Tries so far, this one among them. */
  readonly tries: number;
}

/** Undefined: not again. */
export function retryDelayMs({ error, repeatable, tries }: FailedTry, random: Random): number | undefined {
  if (tries >= TRIES_MAX || !mayRepeat(error, repeatable)) return undefined;
  const backoffMs = Math.min(DELAY_MAX_MS, FIRST_DELAY_MS * 2 ** (tries - 1));
  // Half of it is chance, so that many who were cut off together do not come back together.
  const delayMs = backoffMs * (0.5 + randomUnit(random) / 2);
  const { retryAfterMs = 0 } = error;
  return retryAfterMs > RETRY_AFTER_MAX_MS ? undefined : retryAfterMs + delayMs;
}

function mayRepeat({ status, reason, retryAfterMs }: KubeError, repeatable: boolean): boolean {
  if (status === 429) return true;
  if (status >= 500 && retryAfterMs !== undefined) return true;
  if (status === 0 && reason === NO_ANSWER.notConnected) return true;
  return repeatable && (PASSING.has(status) || (status === 0 && reason === NO_ANSWER.connectionLost));
}

/** Retry-After as seconds; its other form, a date, no apiserver sends. */
export function parseRetryAfter(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : undefined;
}
