/**
 * Defects that are put in on purpose, one at a time, to prove that the simulation finds them. Each sits in a fake or around a
 * port; the product's code knows nothing of them.
 */
import type { SessionLink } from '@collective/client/session/session-connector';
import type { NodeOrders } from '@collective/coordinator/jobs/node-orders';
import type { Log, LogEvents } from '@collective/coordinator/log/log';
import type { ChunkStore } from '@collective/node/chunk-store/chunk-store';
import type { NodeHolding } from '@collective/protocol/gen/admin';
import type { Fault } from './faults.ts';
import { forgettingGarbage, forgettingOrphans, type OrderedParts, readingNothing } from './hasty-orders.ts';
import type { AskedCoordinator } from './leaving-node.ts';

export const BREAKS = {
  'drop-fsync': 'the disks of coordinator and nodes answer syncs and do nothing (M2, D3)',
  'forget-answers': 'the coordinator keeps no answers for requests that come again (M5)',
  'ignore-recall': 'clients acknowledge recalls and go on using what they cached (M7)',
  'early-written': 'the log tells that a batch is written before it is (M4)',
  'early-stable': 'the log tells that a batch is stable as soon as it is written (M2)',
  'unsynced-answer':
    'nodes say that chunks are stable without having synced, so that renames over files do not wait (D3)',
  'lose-chunks': 'nodes answer puts of some chunks and store nothing (D2)',
  'no-grace': 'garbage and orphans go without having been kept for their grace time (D2)',
  'forget-orphans': 'chunks that no row names are deleted as soon as a node shows them (D2)',
  'forget-garbage': 'chunks are deleted as soon as nothing names them any more, and not condemned first (D2)',
  'forget-quota': 'the coordinator does not know the quota of the root realm (M10)',
  'hasty-drain': 'the coordinator says that nothing is left on a node as soon as it drains (D8)',
  'closed-for-good': 'the disk of a node that takes chunks again stays closed (D8)',
  'unread-drop': 'copies too many go although nobody has read the others again (D8)',
} as const;

export type BreakName = keyof typeof BREAKS;

/** Where a defect shows only in few moments, its runs have the faults that make them. */
export const SHOWN_BY: Partial<Record<BreakName, readonly Fault['kind'][]>> = {
  'early-written': ['kill after an answer', 'kill with the client after an answer'],
};

/** The same where only somebody who takes a node away sees it. */
const SHOWN_BY_LEAVING: readonly (BreakName | undefined)[] = ['hasty-drain', 'closed-for-good'];

export function isBreak(name: string): name is BreakName {
  return Object.hasOwn(BREAKS, name);
}

export class Breaks {
  readonly #active: BreakName | undefined;

  constructor(active?: BreakName) {
    this.#active = active;
  }

  get ignoresSyncs(): boolean {
    return this.#active === 'drop-fsync';
  }

  /** In all its runs a node leaves. */
  get isShownByLeaving(): boolean {
    return SHOWN_BY_LEAVING.includes(this.#active);
  }

  get keepsAnswers(): boolean {
    return this.#active !== 'forget-answers';
  }

  log(log: Log): Log {
    if (this.#active === 'early-written') return new EagerLog(log, 'written');
    return this.#active === 'early-stable' ? new EagerLog(log, 'stable') : log;
  }

  sessionLink(link: SessionLink): SessionLink {
    if (this.#active !== 'ignore-recall') return link;
    return {
      send: (message) => link.send(message),
      drained: () => link.drained(),
      close: () => link.close(),
      receive: async (signal) => {
        for (;;) {
          const received = await link.receive(signal);
          if (received?.message?.$case !== 'recall') return received;
          const { sequence } = received.message.value;
          link.send({ message: { $case: 'recallDone', value: { sequence, open: false, blockedBy: [] } } });
        }
      },
    };
  }

  get keepsQuota(): boolean {
    return this.#active !== 'forget-quota';
  }

  get keepsGraces(): boolean {
    return this.#active !== 'no-grace';
  }

  orders(parts: OrderedParts): NodeOrders {
    if (this.#active === 'forget-orphans') return forgettingOrphans(parts);
    if (this.#active === 'forget-garbage') return forgettingGarbage(parts);
    return this.#active === 'unread-drop' ? readingNothing(parts) : parts.orders;
  }

  get opensDisks(): boolean {
    return this.#active !== 'closed-for-good';
  }

  duties(duties: AskedCoordinator['duties']): AskedCoordinator['duties'] {
    if (this.#active !== 'hasty-drain') return duties;
    const emptied = async (answer: Promise<NodeHolding>): Promise<NodeHolding> => ({ ...(await answer), chunks: 0 });
    return {
      set: (...change) => emptied(duties.set(...change)),
      holding: (...question) => emptied(duties.holding(...question)),
      roughHolding: (...question) => emptied(duties.roughHolding(...question)),
      remove: (...removal) => duties.remove(...removal),
    };
  }

  chunkStore(store: ChunkStore): ChunkStore {
    if (this.#active === 'unsynced-answer') return answering(store, 'sync', () => Promise.resolve());
    if (this.#active !== 'lose-chunks') return store;
    let puts = 0;
    return answering(store, 'put', (...put) =>
      ++puts % 5 === 0 ? Promise.resolve({ sequence: store.stableSequence, alreadyHere: false }) : store.put(...put),
    );
  }
}

/** The store, but for one of its methods. */
function answering<Name extends 'put' | 'sync'>(store: ChunkStore, method: Name, answer: ChunkStore[Name]): ChunkStore {
  return new Proxy(store, {
    get(target, name) {
      if (name === method) return answer;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Tells too early what the log has done. */
class EagerLog implements Log {
  readonly #log: Log;
  readonly #lie: 'written' | 'stable';
  #events: LogEvents | undefined;

  constructor(log: Log, lie: 'written' | 'stable') {
    this.#log = log;
    this.#lie = lie;
  }

  get last(): Log['last'] {
    return this.#log.last;
  }

  get sizeBytes(): number {
    return this.#log.sizeBytes;
  }

  read(after: Log['last']): ReturnType<Log['read']> {
    return this.#log.read(after);
  }

  begin(epoch: Parameters<Log['begin']>[0], events: LogEvents): void {
    this.#events = events;
    this.#log.begin(epoch, {
      written: (position) => {
        if (this.#lie !== 'written') events.written(position);
        if (this.#lie === 'stable') events.stable(position);
      },
      stable: (position) => {
        if (this.#lie !== 'stable') events.stable(position);
      },
      failed: (error) => events.failed(error),
    });
  }

  append(payload: Uint8Array): Log['last'] {
    const position = this.#log.append(payload);
    if (this.#lie === 'written') queueMicrotask(() => this.#events?.written(position));
    return position;
  }

  hurry(): void {
    this.#log.hurry();
  }

  endSegment(): void {
    this.#log.endSegment();
  }

  truncate(through: Log['last']): Promise<void> {
    return this.#log.truncate(through);
  }

  close(): Promise<void> {
    return this.#log.close();
  }
}
