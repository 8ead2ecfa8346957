/**
 * A process that stands for election as the operator does, and says in its log when its work begins and when it has ended:
 * `main.ts KUBECONFIG NAMESPACE IDENTITY`. While it leads it writes its identity into a ConfigMap, over and over.
 */
import { sleep } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { serve } from '@collective/base/lifecycle';
import { createLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import { KubeAccess } from '@collective/operator/kube/kube-access';
import { RESOURCES } from '@collective/operator/kube/resources';
import { Elector } from '@collective/operator/runtime/elector';

const [, , kubeconfig = '', namespace = '', identity = ''] = process.argv;
const WRITE_EVERY_MS = 100;

const clock = new SystemClock();
const log = createLog({ program: identity });
const api = new HttpKubeApi(await KubeAccess.fromKubeconfig(kubeconfig, { clock }), { clock, log });

const lead = async (signal: AbortSignal): Promise<void> => {
  log.info({}, 'work begins');
  for (let write = 1; !signal.aborted; write++) {
    const data = { leader: identity, write: String(write) };
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name: 'led' }, data };
    await api.apply(RESOURCES.configMaps, object, { signal }).catch((thrown: unknown) => {
      if (!signal.aborted) log.warn({ err: thrown }, 'write failed');
    });
    await sleep(clock, WRITE_EVERY_MS, signal).catch(() => undefined);
  }
  log.info({}, 'work has ended');
};

process.exitCode = await serve({
  log,
  clock,
  stopWithinMs: 20_000,
  start: async () => {
    const stop = new AbortController();
    const random = new SystemRandom();
    const elector = new Elector({ api, namespace, name: 'operator', identity, clock, random, log });
    const failed = Promise.withResolvers<CollectiveError>();
    const running = elector.run(lead, stop.signal).catch((thrown: unknown) => {
      failed.resolve(toCollectiveError(thrown, 'Stand for election'));
    });
    return {
      failed: failed.promise,
      async [Symbol.asyncDispose]() {
        stop.abort(new CollectiveError('shutting_down', 'Stop the elector'));
        await running;
        api[Symbol.dispose]();
      },
    };
  },
});
