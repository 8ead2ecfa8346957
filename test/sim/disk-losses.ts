/**
 * How much may be lost (D8): of each chunk that is stable one replica must stay, so between two completed repairs at most
 * one node fewer than there are replicas loses its disk, or bytes on it. Within that bound no acknowledged stable byte may be missing.
 */
import { assert } from '@collective/base/assert';

export class DiskLosses {
  readonly #nodesMax: number;
  readonly #hurt = new Set<string>();
  #times = 0;

  constructor(replicas: number) {
    this.#nodesMax = replicas - 1;
  }

  /** A node that is hurt already holds nothing that is counted on. */
  mayHurt(node: string): boolean {
    return this.#hurt.has(node) || this.#hurt.size < this.#nodesMax;
  }

  hurt(node: string): void {
    assert(this.mayHurt(node), `at most ${this.#nodesMax} nodes lose bytes between two repairs`);
    this.#hurt.add(node);
    this.#times += 1;
  }

  /** How often nodes were hurt. */
  get times(): number {
    return this.#times;
  }

  /** Something is to be made good. */
  get any(): boolean {
    return this.#hurt.size > 0;
  }

  /** All that is stable lies on as many whole disks again as it should. */
  repaired(): void {
    this.#hurt.clear();
  }
}
