/**
 * What goes wrong in a run, and when: each seed draws which kinds of faults it has at all (so that some seeds have only power
 * losses, others only cut connections), then one fault after the other.
 */
import { pickOne, type Random, randomBelow, randomUnit } from '@collective/base/random';
import type { RandomStreams } from './random-streams.ts';

export type Fault =
  | { readonly kind: 'kill'; readonly machine: string; readonly downForMs: number }
  | { readonly kind: 'power loss'; readonly machine: string; readonly downForMs: number }
  | { readonly kind: 'power loss everywhere'; readonly clientsToo: boolean; readonly downForMs: number }
  | { readonly kind: 'kill after an answer'; readonly machine: string; readonly downForMs: number }
  | { readonly kind: 'kill with the client after an answer'; readonly machine: string; readonly downForMs: number }
  | { readonly kind: 'power loss after an answer'; readonly machine: string; readonly downForMs: number }
  | { readonly kind: 'power loss of all nodes after a rename'; readonly downForMs: number }
  | { readonly kind: 'stop before a disk change'; readonly machine: string; readonly changes: number }
  | { readonly kind: 'sync fails'; readonly machine: string }
  | { readonly kind: 'disk full'; readonly machine: string; readonly freeBytes: number; readonly forMs: number }
  | { readonly kind: 'slow disk'; readonly machine: string; readonly times: number; readonly forMs: number }
  | { readonly kind: 'disk dies'; readonly node: string; readonly downForMs: number }
  | { readonly kind: 'bit rot'; readonly node: string }
  | { readonly kind: 'node away'; readonly node: string; readonly forMs: number }
  | { readonly kind: 'client dies'; readonly client: number }
  | { readonly kind: 'partition'; readonly a: string; readonly b: string; readonly forMs: number }
  | { readonly kind: 'cut'; readonly a: string; readonly b: string }
  | { readonly kind: 'pause'; readonly process: string; readonly forMs: number }
  | { readonly kind: 'wall clock jumps'; readonly process: string; readonly byMs: number };

const KINDS: readonly Fault['kind'][] = [
  'kill',
  'power loss',
  'power loss everywhere',
  'kill after an answer',
  'kill with the client after an answer',
  'power loss after an answer',
  'stop before a disk change',
  'sync fails',
  'disk full',
  'slow disk',
  'client dies',
  'partition',
  'cut',
  'pause',
  'wall clock jumps',
];

/** What the jobs in the background make good: only in runs of their own, with nodes enough. */
const LASTING_KINDS: readonly Fault['kind'][] = ['disk dies', 'bit rot', 'node away'];

const SAVING_PAUSE_MS = 300;
/** Longer than it takes until a node that is away is given up. */
const AWAY_MS = 20_000;

export interface FaultTargets {
  readonly coordinator: string;
  readonly nodes: readonly string[];
  /** Names of the living. */
  readonly clients: () => readonly string[];
  /** Clients save files: then all nodes lose their power when one has taken the place of another. */
  readonly saving: boolean;
  /** Whether this node may lose bytes for good now; undefined: in this run none do. */
  readonly mayHurt: ((node: string) => boolean) | undefined;
  /** Instead of those that are drawn. */
  readonly kinds: readonly Fault['kind'][] | undefined;
}

export class FaultPlan {
  readonly #random: Random;
  readonly #targets: FaultTargets;
  readonly kinds: readonly Fault['kind'][];
  readonly #meanPauseMs: number;

  constructor(streams: RandomStreams, targets: FaultTargets) {
    this.#random = streams('faults');
    this.#targets = targets;
    const drawn = KINDS.filter((kind) => randomBelow(streams(`fault ${kind}`), 3) === 0);
    const lasting = LASTING_KINDS.filter((kind) => randomBelow(streams(`fault ${kind}`), 3) > 0);
    const usual = targets.mayHurt === undefined ? drawn : [...drawn, ...lasting];
    this.kinds = targets.kinds ?? (targets.saving ? ['power loss of all nodes after a rename'] : usual);
    const meanPauseMs = pickOne(this.#random, [400, 1_500, 5_000]);
    this.#meanPauseMs = targets.saving ? SAVING_PAUSE_MS : meanPauseMs;
  }

  pauseMs(): number {
    return randomUnit(this.#random) * 2 * this.#meanPauseMs;
  }

  next(): Fault | undefined {
    if (this.kinds.length === 0) return undefined;
    const random = this.#random;
    const kind = pickOne(random, this.kinds);
    switch (kind) {
      case 'kill':
      case 'power loss':
      case 'kill after an answer':
      case 'kill with the client after an answer':
      case 'power loss after an answer':
        return { kind, machine: this.#machine(), downForMs: this.#downForMs() };
      case 'power loss of all nodes after a rename':
        return { kind, downForMs: this.#downForMs() };
      case 'power loss everywhere':
        return { kind, clientsToo: randomBelow(random, 2) === 0, downForMs: this.#downForMs() };
      case 'stop before a disk change':
        return { kind, machine: this.#machine(), changes: randomBelow(random, 20) };
      case 'sync fails':
        return { kind, machine: this.#machine() };
      case 'disk full':
        return {
          kind,
          machine: this.#machine(),
          freeBytes: randomBelow(random, 2) * randomBelow(random, 10_000),
          forMs: randomUnit(random) * 5_000,
        };
      case 'disk dies':
      case 'bit rot': {
        const node = pickOne(random, this.#targets.nodes);
        if (this.#targets.mayHurt?.(node) !== true) return undefined;
        return kind === 'bit rot' ? { kind, node } : { kind, node, downForMs: this.#downForMs() };
      }
      case 'node away':
        return { kind, node: pickOne(random, this.#targets.nodes), forMs: AWAY_MS * (1 + randomUnit(random)) };
      case 'slow disk':
        return { kind, machine: this.#machine(), times: pickOne(random, [10, 100]), forMs: randomUnit(random) * 3_000 };
      case 'client dies':
        return { kind, client: randomBelow(random, 100) };
      case 'partition': {
        const [a, b] = this.#pair();
        return { kind, a, b, forMs: this.#spellMs() };
      }
      case 'cut': {
        const [a, b] = this.#pair();
        return { kind, a, b };
      }
      case 'pause':
        return { kind, process: this.#process(), forMs: this.#spellMs() };
      case 'wall clock jumps':
        return { kind, process: this.#process(), byMs: (randomUnit(random) - 0.5) * pickOne(random, [2_000, 100_000]) };
    }
  }

  /** The coordinator is the more interesting half of the time. */
  #machine(): string {
    return randomBelow(this.#random, 2) === 0 ? this.#targets.coordinator : pickOne(this.#random, this.#targets.nodes);
  }

  #process(): string {
    const clients = this.#targets.clients();
    return randomBelow(this.#random, 3) === 0 && clients.length > 0 ? pickOne(this.#random, clients) : this.#machine();
  }

  #pair(): [string, string] {
    const random = this.#random;
    const { coordinator, nodes } = this.#targets;
    const clients = this.#targets.clients();
    const client = clients.length > 0 ? pickOne(random, clients) : coordinator;
    const node = pickOne(random, nodes);
    switch (randomBelow(random, 5)) {
      case 0:
        return [coordinator, node];
      case 1:
        return [client, node];
      case 2:
        return [pickOne(random, nodes), node];
      default:
        return [client, coordinator];
    }
  }

  #downForMs(): number {
    return pickOne(this.#random, [10, 300, 300, 2_000, 12_000]);
  }

  #spellMs(): number {
    return randomUnit(this.#random) * pickOne(this.#random, [100, 1_000, 4_000, 14_000]);
  }
}
