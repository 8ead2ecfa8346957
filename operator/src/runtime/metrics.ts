/**
 * What the operator tells Prometheus about itself, under the names that dashboards for operators know (those of
 * controller-runtime and client-go). What it knows of members has names of its own and stands elsewhere.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { RequestMetrics } from '../kube/http-kube-api.ts';
import type { ControllerMetrics } from './controller.ts';
import type { QueueMetrics } from './work-queue.ts';

const RECONCILE_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const QUEUE_SECONDS = [1e-3, 1e-2, 1e-1, 1, 10, 100, 1000];

export class OperatorMetrics implements RequestMetrics {
  readonly registry = new Registry();
  readonly #reconciles = this.#counter('controller_runtime_reconcile_total', 'Reconciles per controller', [
    'controller',
    'result',
  ]);
  readonly #errors = this.#counter('controller_runtime_reconcile_errors_total', 'Reconciles that failed', [
    'controller',
  ]);
  readonly #seconds = this.#histogram(
    'controller_runtime_reconcile_time_seconds',
    'How long a reconcile took',
    ['controller'],
    RECONCILE_SECONDS,
  );
  readonly #active = this.#gauge('controller_runtime_active_workers', 'Workers that reconcile now', ['controller']);
  readonly #workers = this.#gauge('controller_runtime_max_concurrent_reconciles', 'Workers that there are', [
    'controller',
  ]);
  readonly #depth = this.#gauge('workqueue_depth', 'Keys that wait for a worker', ['name', 'controller']);
  readonly #adds = this.#counter('workqueue_adds_total', 'Keys added', ['name', 'controller']);
  readonly #retries = this.#counter('workqueue_retries_total', 'Keys that come again after a failure', [
    'name',
    'controller',
  ]);
  readonly #waited = this.#histogram(
    'workqueue_queue_duration_seconds',
    'How long a key waited for a worker',
    ['name', 'controller'],
    QUEUE_SECONDS,
  );
  readonly #worked = this.#histogram(
    'workqueue_work_duration_seconds',
    'How long a worker had a key',
    ['name', 'controller'],
    QUEUE_SECONDS,
  );
  readonly #requests = this.#counter('rest_client_requests_total', 'Calls to the apiserver', [
    'code',
    'method',
    'host',
  ]);
  readonly #master = this.#gauge('leader_election_master_status', 'Whether this process leads', ['name']);

  requestDone(method: string, host: string, code: string): void {
    this.#requests.inc({ code, method, host });
  }

  leads(name: string, isLeader: boolean): void {
    this.#master.set({ name }, isLeader ? 1 : 0);
  }

  ofQueue(name: string): QueueMetrics {
    const labels = { name, controller: name };
    // Zero is a value: a rate over a counter that appears with its first count misses that one.
    this.#depth.set(labels, 0);
    this.#adds.inc(labels, 0);
    this.#retries.inc(labels, 0);
    return {
      depth: (keys) => this.#depth.set(labels, keys),
      added: () => this.#adds.inc(labels),
      taken: (waitedMs) => this.#waited.observe(labels, waitedMs / 1000),
      finished: (workedMs) => this.#worked.observe(labels, workedMs / 1000),
      retried: () => this.#retries.inc(labels),
    };
  }

  ofController(controller: string): ControllerMetrics {
    for (const result of ['success', 'requeue_after', 'error']) this.#reconciles.inc({ controller, result }, 0);
    this.#errors.inc({ controller }, 0);
    return {
      reconciled: (result, tookMs) => {
        this.#reconciles.inc({ controller, result });
        if (result === 'error') this.#errors.inc({ controller });
        this.#seconds.observe({ controller }, tookMs / 1000);
      },
      workers: (active, of) => {
        this.#active.set({ controller }, active);
        this.#workers.set({ controller }, of);
      },
    };
  }

  #counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Gauge<Label> {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram<Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    buckets: number[],
  ): Histogram<Label> {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }
}
