/**
 * The chart as helm renders it for some sets of values, as YAML that a person reads. `COLLECTIVE_WRITE_GOLDEN=1 hack/node --test
 * test/apiserver/chart-render.test.ts` writes what is compared; a diff in `test/fixtures/chart/` is reviewed like code.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { LOG_LEVELS } from '@collective/base/log';
import { KUBERNETES_VERSION } from '@collective/hack/kind/tools';
import { RESOURCES } from '@collective/operator/kube/resources';
import { MemberMetrics } from '@collective/operator/member/member-metrics';
import { type OperatorOptions, operatorCommand } from '@collective/operator/operator-options';
import { OperatorMetrics } from '@collective/operator/runtime/metrics';
import { parser as promql } from '@prometheus-io/lezer-promql';
import { stringify } from 'yaml';
import type { KubeObject } from './api-client.ts';
import { CHART, Helm } from './helm.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures/chart');
const RUNBOOKS = join(import.meta.dirname, '../../docs/operating/runbooks');
const SETS = ['bare', 'default', 'everything', 'namespaced'];
const CLUSTER_SCOPED = ['ClusterRole', 'ClusterRoleBinding', 'CustomResourceDefinition'];

const NOT_WATCHED: readonly object[] = [RESOURCES.leases, RESOURCES.podMonitors, RESOURCES.namespaces];

const helm = new Helm();
const valuesFile = (set: string): string => join(FIXTURES, `${set}.values.yaml`);

interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

for (const set of SETS) {
  describe(`chart with the values "${set}"`, () => {
    test('K1: it is rendered as it was reviewed', async () => {
      const rendered = await helm.render('--values', valuesFile(set));
      const text = rendered.map(withoutGenerated).map(toYaml).join('---\n');
      const golden = join(FIXTURES, `${set}.golden.yaml`);
      if (process.env.COLLECTIVE_WRITE_GOLDEN !== undefined) writeFileSync(golden, text);
      assert.equal(text, readFileSync(golden, 'utf8'));
    });

    test('helm lint finds nothing, and is strict', async () => {
      await helm.run('lint', '--strict', '--kube-version', KUBERNETES_VERSION, '--values', valuesFile(set), CHART);
    });

    test('K1: no right is a wildcard', async () => {
      for (const role of rolesOf(await helm.render('--values', valuesFile(set)))) {
        for (const rule of rulesOf(role)) {
          const words = [...rule.apiGroups, ...rule.resources, ...rule.verbs];
          assert.deepEqual(
            words.filter((word) => word.includes('*')),
            [],
            role.metadata.name,
          );
        }
      }
    });
  });
}

test('K1: a release for some namespaces has nothing that belongs to the whole cluster', async () => {
  const rendered = await helm.render('--values', valuesFile('namespaced'));
  assert.deepEqual(
    rendered.filter(({ kind }) => CLUSTER_SCOPED.includes(kind)),
    [],
  );
  const roles = rolesOf(rendered).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
  assert.deepEqual(roles.sort(), [
    'collective-system/collective-operator-election',
    'home/collective-operator',
    'photos/collective-operator',
  ]);
});

test('K1: the operator may watch every kind that it knows, and neither makes nor changes a Secret', async () => {
  const rules = rulesOf(await clusterRole('collective-operator'));
  const verbs = ({ apiVersion, plural }: { apiVersion: string; plural: string }): readonly string[] => {
    const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
    return rules
      .filter((rule) => rule.apiGroups.includes(group) && rule.resources.includes(plural))
      .flatMap(({ verbs }) => verbs);
  };
  for (const resource of Object.values(RESOURCES)) {
    // In its own namespace only; where there is such a kind; one by one.
    if (NOT_WATCHED.includes(resource)) continue;
    const may = verbs(resource);
    for (const verb of ['get', 'list', 'watch']) assert.ok(may.includes(verb), `${verb} ${resource.plural}`);
  }
  assert.deepEqual(verbs(RESOURCES.secrets), ['get', 'list', 'watch', 'delete']);
});

test('K1: who may view a namespace sees members, and no Secret by that', async () => {
  assert.deepEqual(rulesOf(await clusterRole('collective-view')), [
    {
      apiGroups: ['collective.storage'],
      resources: ['collectives', 'collectives/status', 'members', 'members/status'],
      verbs: ['get', 'list', 'watch'],
    },
  ]);
  const [edit] = rulesOf(await clusterRole('collective-edit'));
  assert.deepEqual(edit?.resources, ['collectives', 'members']);
});

const REFUSED: readonly { readonly set: string; readonly says: RegExp }[] = [
  { set: 'operater.replicas=2', says: /additional properties 'operater' not allowed/ },
  { set: 'operator.replica=2', says: /'\/operator': additional properties 'replica' not allowed/ },
  { set: 'operator.replicas=many', says: /'\/operator\/replicas': got string, want integer/ },
  { set: 'operator.leaseDurationSeconds=10', says: /'\/operator\/leaseDurationSeconds': minimum: got 10, want 15/ },
  { set: 'image.tag=latest', says: /'\/image\/tag': 'not' failed/ },
  { set: 'image.digest=0123', says: /'\/image\/digest': '0123' does not match pattern/ },
  {
    set: 'operator.logLevel=chatty',
    says: /'\/operator\/logLevel': value must be one of 'fatal', 'error', 'warn', 'info', 'debug', 'silent'/,
  },
  { set: 'watchNamespaces={a,a}', says: /'\/watchNamespaces': items at 0 and 1 are equal/ },
  { set: 'serviceAccount.create=false', says: /serviceAccount\.name is needed when serviceAccount\.create is false/ },
];

for (const { set, says } of REFUSED) {
  test(`helm refuses --set ${set}`, async () => {
    await assert.rejects(helm.render('--set', set), says);
  });
}

test('a cluster that is too old is refused', async () => {
  await assert.rejects(helm.render('--kube-version', 'v1.32.9'), /chart requires kubeVersion: >=1\.33\.0-0/);
});

test('the environment that the chart sets is what the program reads', async () => {
  const rendered = await helm.render('--values', valuesFile('everything'), '--set', 'watchNamespaces={photos,home}');
  const { containers } = podSpecOf(rendered);
  const { env = [] } = containers[0] ?? {};
  const own = env.filter(({ name }) => name.startsWith('COLLECTIVE_'));
  assert.equal(own.length, 7);
  let read: OperatorOptions | undefined;
  const command = operatorCommand('0.0.0', async (options) => {
    read = options;
  });
  const known = command.options.map(({ envVar }) => envVar);
  for (const { name } of own) assert.ok(known.includes(name), name);
  // commander reads the environment of the process.
  const before = { ...process.env };
  try {
    for (const { name, value = 'collective-system' } of own) process.env[name] = value;
    await command.parseAsync([], { from: 'user' });
  } finally {
    process.env = before;
  }
  assert.deepEqual(read, {
    watchNamespaces: ['photos', 'home'],
    namespace: 'collective-system',
    image: `registry.example:5000/storage/collective@sha256:${'0123456789abcdef'.repeat(4)}`,
    imagePullPolicy: 'Always',
    networkPolicies: true,
    leaderElect: true,
    leaseDurationSeconds: 60,
    kubeconfig: undefined,
    logLevel: 'debug',
    healthListen: { host: '', port: 8081 },
    metricsListen: { host: '', port: 8080 },
  });
});

test('every level of logging that the program knows is a value of the chart, and no other', async () => {
  const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')) as {
    properties: { operator: { properties: { logLevel: { enum: readonly string[] } } } };
  };
  assert.deepEqual([...schema.properties.operator.properties.logLevel.enum].sort(), [...LOG_LEVELS].sort());
});

describe('alerts and dashboard', () => {
  test('every alert has a runbook, and every runbook an alert', async () => {
    const alerts = await alertsOf();
    const pages = globSync('*.md', { cwd: RUNBOOKS }).filter((page) => page !== 'README.md');
    assert.deepEqual(pages.map((page) => basename(page, '.md')).sort(), alerts.map(({ alert }) => alert).sort());
    // Nobody has said where the runbooks are.
    assert.ok(alerts.every(({ annotations }) => annotations.runbook_url === undefined));
    for (const { alert, annotations } of await alertsOf(
      'monitoring.prometheusRule.runbookUrl=https://wiki.example/runbooks',
    ))
      assert.equal(annotations.runbook_url, `https://wiki.example/runbooks/${alert}.md`);
  });

  test('Prometheus can read what they ask', async () => {
    for (const query of [...(await alertsOf()).map(({ expr }) => expr), ...dashboardQueries()]) {
      const faults: string[] = [];
      promql.parse(query).iterate({
        enter: ({ type, from }) => {
          if (type.isError) faults.push(query.slice(from));
        },
      });
      assert.deepEqual(faults, [], query);
    }
  });

  test('they ask for metrics only that the operator has', async () => {
    const asked = (await alertsOf()).map(({ expr }) => expr);
    const names = [...asked, ...dashboardQueries()].flatMap((query) => query.match(METRIC_NAME) ?? []);
    const { registry } = new OperatorMetrics();
    new MemberMetrics(registry);
    const known = new Set(registry.getMetricsAsArray().map(({ name }) => name));
    assert.deepEqual(
      [...new Set(names)].filter((name) => !known.has(name.replace(/_bucket$/, ''))),
      [],
    );
  });
});

const METRIC_NAME = /\b(?:collective|controller_runtime|workqueue|rest_client|leader_election)_[a-z_]+/g;

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: Readonly<Record<string, string>>;
}

async function alertsOf(...values: readonly string[]): Promise<readonly Alert[]> {
  const rendered = await helm.render('--set', ['monitoring.prometheusRule.enabled=true', ...values].join(','));
  const rule = rendered.find(({ kind }) => kind === 'PrometheusRule');
  assert.ok(rule !== undefined);
  return (rule.spec as { groups: readonly { rules: readonly Alert[] }[] }).groups.flatMap(({ rules }) => rules);
}

function dashboardQueries(): readonly string[] {
  const dashboard = readFileSync(join(CHART, 'dashboards/collective.json'), 'utf8');
  const { panels } = JSON.parse(dashboard) as { panels: readonly { targets?: readonly { expr: string }[] }[] };
  return panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
}

interface PodSpec {
  readonly containers: readonly { readonly env?: readonly { readonly name: string; readonly value?: string }[] }[];
}

function podSpecOf(objects: readonly KubeObject[]): PodSpec {
  const deployment = objects.find(({ kind }) => kind === 'Deployment');
  assert.ok(deployment !== undefined);
  return (deployment.spec as { template: { spec: PodSpec } }).template.spec;
}

async function clusterRole(name: string): Promise<KubeObject> {
  const role = (await helm.render()).find(({ kind, metadata }) => kind === 'ClusterRole' && metadata.name === name);
  assert.ok(role !== undefined, name);
  return role;
}

function rolesOf(objects: readonly KubeObject[]): readonly KubeObject[] {
  return objects.filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole');
}

function rulesOf(role: KubeObject): readonly PolicyRule[] {
  return role.rules as readonly PolicyRule[];
}

/** What is made from other sources and compared there is named only. */
function withoutGenerated(object: KubeObject): KubeObject {
  if (object.kind === 'CustomResourceDefinition') return { ...object, spec: 'as in crds/' };
  const { 'collective.json': dashboard, ...rest } = (object.data ?? {}) as Record<string, string>;
  if (dashboard === undefined) return object;
  assert.deepEqual(JSON.parse(dashboard), JSON.parse(readFileSync(join(CHART, 'dashboards/collective.json'), 'utf8')));
  return { ...object, data: { ...rest, 'collective.json': 'as in dashboards/' } };
}

function toYaml(object: KubeObject): string {
  return stringify(object, { lineWidth: 0, aliasDuplicateObjects: false });
}
