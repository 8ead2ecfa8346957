import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OperatorMetrics } from './metrics.ts';

test('names and labels are those that dashboards for operators know', async () => {
  const metrics = new OperatorMetrics();
  const queue = metrics.ofQueue('member');
  const controller = metrics.ofController('member');
  metrics.requestDone('PATCH', '10.96.0.1:443', '200');
  metrics.leads('collective-operator', true);
  queue.added();
  queue.depth(3);
  queue.taken(40);
  queue.retried();
  controller.workers(1, 4);
  controller.reconciled('success', 30);
  controller.reconciled('error', 90);
  const text = await metrics.registry.metrics();
  for (const line of [
    'rest_client_requests_total{code="200",method="PATCH",host="10.96.0.1:443"} 1',
    'leader_election_master_status{name="collective-operator"} 1',
    'workqueue_depth{name="member",controller="member"} 3',
    'workqueue_adds_total{name="member",controller="member"} 1',
    'workqueue_retries_total{name="member",controller="member"} 1',
    'workqueue_queue_duration_seconds_bucket{le="0.1",name="member",controller="member"} 1',
    'controller_runtime_reconcile_total{controller="member",result="success"} 1',
    'controller_runtime_reconcile_total{controller="member",result="requeue_after"} 0',
    'controller_runtime_reconcile_errors_total{controller="member"} 1',
    'controller_runtime_reconcile_time_seconds_bucket{le="0.05",controller="member"} 1',
    'controller_runtime_max_concurrent_reconciles{controller="member"} 4',
  ]) {
    assert.ok(text.split('\n').includes(line), `${line} is not in\n${text}`);
  }
});
