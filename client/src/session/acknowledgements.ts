/**
 * Numbers of requests whose kept answers may go (M5). A stream delivers in order, so what was sent before a renewal has
 * arrived when the renewal is answered; until then it is sent again after a broken stream.
 */
export class Acknowledgements {
  #unsent: number[] = [];
  #sentSinceRenewal: number[] = [];
  #sentBeforeRenewal: number[] = [];

  add(numbers: readonly number[]): void {
    for (const number of numbers) this.#unsent.push(number);
  }

  get waiting(): boolean {
    return this.#unsent.length > 0;
  }

  /** Takes what goes out with the next message. */
  take(): number[] {
    const taken = this.#unsent;
    this.#unsent = [];
    for (const number of taken) this.#sentSinceRenewal.push(number);
    return taken;
  }

  renewalSent(): void {
    for (const number of this.#sentSinceRenewal) this.#sentBeforeRenewal.push(number);
    this.#sentSinceRenewal = [];
  }

  renewalAnswered(): void {
    this.#sentBeforeRenewal = [];
  }

  streamBroke(): void {
    this.#unsent = [...this.#sentBeforeRenewal, ...this.#sentSinceRenewal, ...this.#unsent];
    this.#sentBeforeRenewal = [];
    this.#sentSinceRenewal = [];
  }

  clear(): void {
    this.#unsent = [];
    this.#sentBeforeRenewal = [];
    this.#sentSinceRenewal = [];
  }
}
