/**
 * What kubelet knows of a container by its readiness probe: with a first good answer it is ready, and it stays so until as many
 * looks in a row have failed as the probe allows. Until it is ready it is asked at each look instead of each period, so that the
 * pods of a test come up in seconds.
 */
import type { Clock } from '@collective/base/clock';

/** As in a pod's template; what is absent there is as Kubernetes has it. */
export interface ProbeRules {
  readonly httpGet: { readonly path: string; readonly port: string };
  readonly periodSeconds?: number;
  readonly timeoutSeconds?: number;
  readonly failureThreshold?: number;
}

export class ReadinessProbe {
  readonly #url: string;
  readonly #clock: Clock;
  readonly #periodMs: number;
  readonly #answerWithinMs: number;
  readonly #failuresMax: number;
  #failures = 0;
  #isReady = false;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;

  constructor({ url, rules, clock }: { readonly url: string; readonly rules: ProbeRules; readonly clock: Clock }) {
    const { periodSeconds = 10, timeoutSeconds = 1, failureThreshold = 3 } = rules;
    this.#url = url;
    this.#clock = clock;
    this.#periodMs = periodSeconds * 1_000;
    this.#answerWithinMs = timeoutSeconds * 1_000;
    this.#failuresMax = failureThreshold;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Asks when it is time, and not while it is being asked; resolves with the answer, which nobody needs to wait for. */
  look(): Promise<void> {
    const isTime = !this.#isReady || this.#clock.bootMs() - this.#askedAtMs >= this.#periodMs;
    if (this.#asking === undefined && isTime) {
      this.#askedAtMs = this.#clock.bootMs();
      this.#asking = this.#ask().finally(() => {
        this.#asking = undefined;
      });
    }
    return this.#asking ?? Promise.resolve();
  }

  async #ask(): Promise<void> {
    if (await this.#isWell()) {
      this.#failures = 0;
      this.#isReady = true;
    } else if (++this.#failures >= this.#failuresMax) this.#isReady = false;
  }

  async #isWell(): Promise<boolean> {
    try {
      return (await fetch(this.#url, { signal: AbortSignal.timeout(this.#answerWithinMs) })).ok;
    } catch {
      // Not yet, or not any more.
      return false;
    }
  }
}
