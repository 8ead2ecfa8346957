/**
 * Node keeps a signal that was made by AbortSignal.any for as long as somebody listens to it and none of its sources is aborted, in a
 * set of its own. A simulated process that is killed aborts nothing, so what it waited for would stay, and with it the whole run
 * (4 MB a seed). During a run the sources hold what was made of them instead, and go with the run.
 */
export function holdSignalsByTheirSources(): Disposable {
  const { any } = AbortSignal;
  AbortSignal.any = (sources) => {
    const signals = [...sources];
    const made = new AbortController();
    const aborted = signals.find((source) => source.aborted);
    if (aborted !== undefined) made.abort(aborted.reason);
    // Not to be taken away by a signal of its own: of such a listener too Node keeps what it is on.
    else
      for (const source of signals) source.addEventListener('abort', () => made.abort(source.reason), { once: true });
    return made.signal;
  };
  return {
    [Symbol.dispose]: () => {
      AbortSignal.any = any;
    },
  };
}
