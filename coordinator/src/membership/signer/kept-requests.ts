/**
 * The signer of a coordinator that holds no authority (T5). What was approved is kept in the metadata, stable, until somebody
 * who may sign has fetched and answered it: in Kubernetes the operator. So an approval outlives the coordinator, and whoever
 * repeats a request gets the answer of the first time. A caller waits for some seconds and is then told to ask again.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type CheckedRequest, checkCsr } from '@collective/protocol/tls/check-csr';
import { parseSpiffeId } from '@collective/protocol/tls/spiffe-id';
import type { Trust } from '@collective/protocol/tls/trust-files';
import type { Engine } from '../../engine/transaction.ts';
import type { RequestRow } from '../../tables/gen/tables.ts';
import {
  answerRequest,
  isAnswered,
  keepRequest,
  livingRequest,
  requestIdOf,
  requestKeyOf,
  requestOfId,
  waitingRequests,
} from './request-rows.ts';
import { checkSignedLeaf } from './signed-leaf.ts';
import type { IssuedLeaf, Signer } from './signer.ts';

/** Below the 10 s that a stranger's connection lives. */
const SIGNED_WITHIN_MS = 8_000;
export const LISTED_MAX = 128;
const LIST_WITHIN_MS_MAX = 60_000;
/** Callers that wait at once; the others are told to ask again. */
export const WAITERS_MAX = 1_024;

export interface KeptRequestsParts {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly trust: Pick<Trust, 'current'>;
  /** Of this start: what it says it has listed, another start has not. */
  readonly epoch: { readonly generation: number; readonly start: number };
  readonly signedWithinMs?: number;
}

export interface ListedRequest {
  readonly id: string;
  readonly subject: string;
  readonly csr: Buffer;
}

export interface ListedRequests {
  readonly requests: readonly ListedRequest[];
  /** Of what is kept now; for `after`. */
  readonly mark: string;
}

export class KeptRequests implements Signer {
  readonly #parts: KeptRequestsParts;
  readonly #waiters = new Set<() => void>();
  /** Goes up with each request that is kept anew. */
  #kept = 0;

  constructor(parts: KeptRequestsParts) {
    this.#parts = parts;
  }

  bundlePem(): string {
    return this.#parts.trust.current.bundlePem;
  }

  async sign(request: CheckedRequest, signal?: AbortSignal): Promise<IssuedLeaf> {
    const { engine, clock, signedWithinMs = SIGNED_WITHIN_MS } = this.#parts;
    const untilMs = clock.bootMs() + signedWithinMs;
    const key = requestKeyOf(request);
    const { isNew } = await engine.run((tx) => keepRequest(tx, request, (row) => this.#isOfUse(row, request)));
    if (isNew) {
      this.#kept++;
      this.#wake();
    }
    for (;;) {
      // Before it is looked at: an answer in between is not missed.
      using change = this.#nextChange(untilMs - clock.bootMs(), signal);
      const row = await engine.run((tx) => livingRequest(tx, key));
      if (row !== undefined && isAnswered(row)) return this.#answerOf(row, request);
      // Its subject was removed, or others took its place.
      if (row === undefined || !(await change.came)) throw notSignedYet(request.id.uri);
    }
  }

  /** With a time to wait: as soon as something is kept that `after` does not tell of, or when the time is over. */
  async list(
    { after = '', waitMs = 0 }: { readonly after?: string; readonly waitMs?: number },
    signal?: AbortSignal,
  ): Promise<ListedRequests> {
    const { engine, clock, epoch } = this.#parts;
    const untilMs = clock.bootMs() + Math.min(waitMs, LIST_WITHIN_MS_MAX);
    for (;;) {
      const leftMs = untilMs - clock.bootMs();
      using change = this.#nextChange(leftMs, signal);
      const mark = `${epoch.generation}.${epoch.start}.${this.#kept}`;
      const waiting = await engine.run((tx) => waitingRequests(tx, LISTED_MAX));
      const isNews = waiting.length > 0 && mark !== after;
      if (isNews || leftMs <= 0 || !(await change.came)) {
        const requests = waiting.map(({ key, row }) => ({ id: requestIdOf(key, row), subject: row.uri, csr: row.csr }));
        return { requests, mark };
      }
    }
  }

  /** False: it was answered before, or is not kept any more. Throws `invalid_argument` for what is not what was asked for. */
  async answer(
    id: string,
    answer: { readonly certificatePem: string } | { readonly refused: string },
  ): Promise<boolean> {
    const { engine } = this.#parts;
    const stored = await engine.run((tx) => requestOfId(tx, id));
    if (stored === undefined || isAnswered(stored.row)) return false;
    const told = 'refused' in answer ? answer : this.#check(answer.certificatePem, await requestOfRow(stored.row));
    const isTaken = await engine.run((tx) => {
      const still = requestOfId(tx, id);
      if (still === undefined || isAnswered(still.row)) return false;
      answerRequest(tx, still, told);
      return true;
    });
    this.#wake();
    return isTaken;
  }

  #answerOf({ certificatePem, refused }: RequestRow, request: CheckedRequest): IssuedLeaf {
    if (refused !== '')
      throw new CollectiveError('csr_refused', `Sign a certificate for ${request.id.uri}: it was refused: ${refused}`);
    return this.#check(certificatePem, request);
  }

  /** One that an authority signed which was given up since is asked for anew. */
  #isOfUse({ certificatePem, refused }: RequestRow, request: CheckedRequest): boolean {
    if (refused !== '') return true;
    try {
      this.#check(certificatePem, request);
      return true;
    } catch {
      return false;
    }
  }

  #check(certificatePem: string, request: Pick<CheckedRequest, 'id' | 'publicKey'>): IssuedLeaf {
    const { trust, clock } = this.#parts;
    return checkSignedLeaf(certificatePem, request, { roots: trust.current.roots, clock });
  }

  /** `came` is false when the time is over; it rejects when the signal is aborted. */
  #nextChange(withinMs: number, signal?: AbortSignal): Disposable & { readonly came: Promise<boolean> } {
    signal?.throwIfAborted();
    const { promise: came, resolve, reject } = Promise.withResolvers<boolean>();
    // It may be aborted before anybody waits for it.
    came.catch(() => undefined);
    const onChange = (): void => resolve(true);
    const onAbort = (): void => reject(signal?.reason);
    if (this.#waiters.size >= WAITERS_MAX || withinMs <= 0) resolve(false);
    else this.#waiters.add(onChange);
    const timer = this.#parts.clock.setTimer(Math.max(0, withinMs), () => resolve(false));
    signal?.addEventListener('abort', onAbort, { once: true });
    return {
      came,
      [Symbol.dispose]: () => {
        timer.cancel();
        this.#waiters.delete(onChange);
        signal?.removeEventListener('abort', onAbort);
      },
    };
  }

  /** Rows have changed without us: who waits for one that is gone need not wait any more. */
  rowsChanged(): void {
    this.#wake();
  }

  /** All of them look: they are few, and what changes is rare. */
  #wake(): void {
    for (const onChange of [...this.#waiters]) onChange();
  }
}

async function requestOfRow({ uri, csr }: RequestRow): Promise<CheckedRequest> {
  return await checkCsr(csr, parseSpiffeId(uri));
}

function notSignedYet(uri: string): CollectiveError {
  return new CollectiveError(
    'not_signed_yet',
    `Sign a certificate for ${uri}: it is approved and waits for the authority of the member, which is not here`,
  );
}
