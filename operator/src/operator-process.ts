/** The parts list of an operator process: the way to the apiserver, health and metrics, the Lease, and the operator itself. */
import { hostname } from 'node:os';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { HealthServer } from '@collective/base/health-server';
import type { Running } from '@collective/base/lifecycle';
import type { Log } from '@collective/base/log';
import { randomUuid, SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import packageJson from '../package.json' with { type: 'json' };
import { GrpcCoordinatorAccess } from './coordinator/grpc-coordinator-access.ts';
import { HttpKubeApi } from './kube/http-kube-api.ts';
import { KubeAccess } from './kube/kube-access.ts';
import { Operator } from './operator.ts';
import type { OperatorOptions } from './operator-options.ts';
import { Elector } from './runtime/elector.ts';
import { EventRecorder } from './runtime/event-recorder.ts';
import { leaseTimes } from './runtime/lease.ts';
import { OperatorMetrics } from './runtime/metrics.ts';

const LEASE = 'collective-operator';

export const { version } = packageJson;

/** `coordinators`: how members are reached, where that is not what the cluster's DNS says; it is disposed with the rest. */
export async function startOperator(
  options: OperatorOptions,
  log: Log,
  coordinators = new GrpcCoordinatorAccess(),
): Promise<Running> {
  const clock = new SystemClock();
  const random = new SystemRandom();
  const metrics = new OperatorMetrics();
  await using parts = new AsyncDisposableStack();
  const access =
    options.kubeconfig === undefined
      ? await KubeAccess.fromEnvironment({ clock })
      : await KubeAccess.fromKubeconfig(options.kubeconfig, { clock });
  const userAgent = `collective-operator/${version}`;
  const api = parts.use(new HttpKubeApi(access, { clock, log, metrics, userAgent }));
  parts.use(coordinators);
  const events = parts.use(new EventRecorder({ api, clock, log, instance: hostname() }));
  const { image, imagePullPolicy, networkPolicies, watchNamespaces: namespaces } = options;
  const settings = { image, imagePullPolicy, networkPolicies };
  const operator = new Operator({ api, namespaces, settings, coordinators, events, metrics, clock, random, log });

  const { registry } = metrics;
  const stop = new AbortController();
  const live = (): undefined => undefined;
  for (const where of [options.healthListen, options.metricsListen]) {
    if (where === undefined) continue;
    const ready = (): string | undefined => (stop.signal.aborted ? 'stopping' : operator.trouble);
    parts.use(await HealthServer.listen({ ...where, registry, live, ready }));
  }

  const elector = new Elector({
    api,
    namespace: options.namespace ?? access.namespace ?? 'default',
    name: LEASE,
    // Of this process alone, also when its container starts anew in the same pod.
    identity: `${hostname()}_${randomUuid(random)}`,
    times: leaseTimes(options.leaseDurationSeconds),
    clock,
    random,
    log,
    metrics,
  });
  const work = async (signal: AbortSignal): Promise<void> => await operator.run(signal);
  const working = options.leaderElect ? elector.run(work, stop.signal) : work(stop.signal);
  const failed = working.then(
    () => new Promise<never>(() => undefined),
    (thrown: unknown) => toCollectiveError(thrown, 'Run the operator'),
  );
  log.info({ version, apiserver: access.server.host, namespaces }, 'operator starts');
  const running = parts.move();
  return {
    failed,
    async [Symbol.asyncDispose]() {
      stop.abort(new CollectiveError('shutting_down', 'Stop the operator'));
      await working.catch((thrown: unknown) => log.debug({ err: thrown }, 'ended'));
      await running.disposeAsync();
    },
  };
}
