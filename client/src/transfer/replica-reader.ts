/**
 * Reads a range of one chunk from whichever replica serves it best (D6): the least loaded first; a second one is asked
 * when the first is slow to begin; what breaks in the middle goes on elsewhere. Bytes were verified on arrival (D5).
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { chunkIdFromBytes } from '@collective/base/ids';
import type { GetRequest } from '@collective/protocol/bulk/exchange';
import type { RawPiece } from '@collective/protocol/bulk/range-reader';
import type { ChunkLocation, ReplicaTicket } from '@collective/protocol/gen/session';
import type { Session } from '../session/session.ts';
import type { AccessTokens } from './access-tokens.ts';
import type { BulkPool } from './bulk-pool.ts';

/** A replica that has sent nothing for so long gets a rival. */
const HEDGE_AFTER_MS = 300;
/** Made once: nobody sees it, and making an error costs as much as a small read. */
const NO_LONGER_WANTED = new CollectiveError('interrupted', 'Read a chunk: no longer wanted');

interface Opened {
  readonly node: string;
  readonly first: RawPiece | undefined;
  readonly rest: AsyncIterator<RawPiece>;
  readonly stop: AbortController;
}

export class ReplicaReader {
  readonly #clock: Clock;
  readonly #session: Session;
  readonly #pool: BulkPool;
  readonly #tokens: AccessTokens;

  constructor(options: { clock: Clock; session: Session; pool: BulkPool; tokens: AccessTokens }) {
    this.#clock = options.clock;
    this.#session = options.session;
    this.#pool = options.pool;
    this.#tokens = options.tokens;
  }

  /** Throws `chunk_missing`, `chunk_corrupt`, `unavailable` or `token_invalid` when no replica is left to ask. */
  async *read(
    location: ChunkLocation,
    offset: number,
    length: number,
    signal: AbortSignal,
  ): AsyncGenerator<RawPiece, void, undefined> {
    const errors: CollectiveError[] = [];
    let left = this.#inOrder(location.replicas);
    let done = 0;
    while (done < length) {
      if (left.length === 0) throw noReplica(location, errors);
      const opened = await this.#openFirst(left, location, offset + done, length - done, errors, signal);
      left = opened.left;
      if (opened.winner === undefined) continue;
      const { node, first, rest, stop } = opened.winner;
      let ended = false;
      try {
        for (let piece = first; piece !== undefined; ) {
          done += piece.bytes.length;
          yield piece;
          const next = await rest.next();
          piece = next.done ? undefined : next.value;
        }
        ended = true;
        this.#pool.succeeded(node);
      } catch (thrown) {
        signal.throwIfAborted();
        errors.push(this.#failed(node, thrown, location));
      } finally {
        if (!ended) {
          stop.abort(NO_LONGER_WANTED);
          await rest.return?.().catch(() => undefined);
        }
      }
    }
  }

  /** The whole of one replica, for verification: no fall-over. Answers how many bytes it read. */
  async readOne(location: ChunkLocation, replica: ReplicaTicket, signal: AbortSignal): Promise<number> {
    let bytes = 0;
    for await (const piece of this.#get(location, replica, 0, location.length, signal)) {
      bytes += piece.bytes.length;
      piece.release();
    }
    if (bytes !== location.length) {
      const what = `Read a chunk of ${location.length} bytes from node ${replica.node}: ${bytes} came`;
      throw new CollectiveError('chunk_corrupt', what);
    }
    return bytes;
  }

  /** Starts with the first replica; the next joins when it fails or is slow; the first to send anything wins. */
  async #openFirst(
    replicas: readonly ReplicaTicket[],
    location: ChunkLocation,
    offset: number,
    length: number,
    errors: CollectiveError[],
    signal: AbortSignal,
  ): Promise<{ winner: Opened | undefined; left: ReplicaTicket[] }> {
    const left = [...replicas];
    const running = new Map<string, { stop: AbortController; opened: Promise<Opened | CollectiveError> }>();
    const begin = (): void => {
      const replica = left.shift();
      if (replica === undefined) return;
      const stop = new AbortController();
      const opened = this.#open(location, replica, offset, length, stop, signal);
      running.set(replica.node, { stop, opened });
    };
    begin();
    let winner: Opened | undefined;
    while (winner === undefined && running.size > 0) {
      const next = await this.#firstOrSlow(
        [...running.values()].map(({ opened }) => opened),
        left.length > 0,
      );
      if (next === 'slow') begin();
      else if (next.result instanceof CollectiveError) {
        errors.push(next.result);
        running.delete(next.result.details.node as string);
        begin();
      } else winner = next.result;
    }
    for (const [node, { stop, opened }] of running) {
      if (node === winner?.node) continue;
      stop.abort(NO_LONGER_WANTED);
      // It may still be asked if the winner breaks off.
      const loser = replicas.find((replica) => replica.node === node);
      if (loser !== undefined) left.push(loser);
      void opened.then((late) => (late instanceof CollectiveError ? undefined : late.rest.return?.()));
    }
    signal.throwIfAborted();
    return { winner, left };
  }

  async #firstOrSlow(
    opened: readonly Promise<Opened | CollectiveError>[],
    mayHedge: boolean,
  ): Promise<'slow' | { result: Opened | CollectiveError }> {
    const arrivals = opened.map((one) => one.then((result) => ({ result })));
    if (!mayHedge) return await Promise.race(arrivals);
    let timer: Timer | undefined;
    const slow = new Promise<'slow'>((resolve) => {
      timer = this.#clock.setTimer(HEDGE_AFTER_MS, () => resolve('slow'));
    });
    try {
      return await Promise.race([slow, ...arrivals]);
    } finally {
      timer?.cancel();
    }
  }

  async #open(
    location: ChunkLocation,
    replica: ReplicaTicket,
    offset: number,
    length: number,
    stop: AbortController,
    signal: AbortSignal,
  ): Promise<Opened | CollectiveError> {
    const rest = this.#get(location, replica, offset, length, AbortSignal.any([signal, stop.signal]));
    try {
      const first = await rest.next();
      return { node: replica.node, first: first.done ? undefined : first.value, rest, stop };
    } catch (thrown) {
      if (signal.aborted || stop.signal.aborted)
        return new CollectiveError('interrupted', 'Read a chunk: no longer wanted', {
          details: { node: replica.node },
        });
      return this.#failed(replica.node, thrown, location);
    }
  }

  async *#get(
    location: ChunkLocation,
    replica: ReplicaTicket,
    offset: number,
    length: number,
    signal: AbortSignal,
  ): AsyncGenerator<RawPiece, void, undefined> {
    const chunk = chunkIdFromBytes(location.chunk);
    let token = this.#tokens.forGet();
    if (token === undefined) {
      await this.#session.renew(signal);
      token = this.#tokens.forGet();
    }
    if (token === undefined)
      throw new CollectiveError('token_invalid', `Get chunk ${chunk}: the coordinator has given no access token`);
    const exchange = await this.#pool.exchange(replica.node, signal);
    const ticketExpires = replica.expires ?? { seconds: 0, nanos: 0 };
    const request: GetRequest = { token, ticket: replica.ticket, ticketExpires, chunk, offset, length };
    yield* exchange.get(request, { signal });
  }

  #failed(node: string, thrown: unknown, location: ChunkLocation): CollectiveError {
    const chunk = chunkIdFromBytes(location.chunk);
    const error = toCollectiveError(thrown, `Get chunk ${chunk} from node ${node}`, 'unavailable');
    // A node that lacks one chunk, or refuses one ticket, is well otherwise.
    if (!['chunk_missing', 'chunk_corrupt', 'token_invalid'].includes(error.code)) this.#pool.failed(node);
    return new CollectiveError(error.code, `Get chunk ${chunk} from node ${node}`, {
      cause: error,
      details: { node, chunk },
    });
  }

  #inOrder(replicas: readonly ReplicaTicket[]): ReplicaTicket[] {
    const rank = ({ node }: ReplicaTicket): number =>
      (this.#pool.isAvoided(node) ? 1_000_000 : 0) + this.#pool.load(node);
    return [...replicas].sort((a, b) => rank(a) - rank(b));
  }
}

/** A damaged replica says more than one out of reach, and that more than one that is missing. */
function noReplica(location: ChunkLocation, errors: readonly CollectiveError[]): CollectiveError {
  const chunk = chunkIdFromBytes(location.chunk);
  for (const code of ['token_invalid', 'unavailable', 'deadline_exceeded', 'chunk_corrupt'] as const) {
    const found = errors.find((error) => error.code === code);
    if (found !== undefined)
      return new CollectiveError(code, `Read chunk ${chunk}: no replica served it`, { cause: found });
  }
  const what = `Read chunk ${chunk}: none of ${location.replicas.length} replicas has it`;
  return new CollectiveError(errors[0]?.code ?? 'chunk_missing', what, { cause: errors[0] });
}
