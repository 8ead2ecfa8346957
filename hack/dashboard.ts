// The Grafana dashboard of the chart: first how members are, then how the operator works. It is a program, so that a panel is three
// lines and all of them look alike.

interface Panel {
  readonly title: string;
  readonly type: 'stat' | 'timeseries';
  /** Of 24. */
  readonly width: number;
  readonly unit?: 'bytes' | 's' | 'percentunit' | 'short' | 'ops';
  readonly queries: readonly { readonly expression: string; readonly legend: string }[];
}

const MEMBER = '{namespace=~"$namespace",member=~"$member"}';
const PANEL_HEIGHT = 7;
const ROW_WIDTH = 24;

const ROWS: readonly { readonly title: string; readonly panels: readonly Panel[] }[] = [
  {
    title: 'Members',
    panels: [
      stat('Members ready', `sum(collective_member_ready${MEMBER})`, 'ready'),
      stat('Members', `count(collective_member_ready${MEMBER})`, 'all'),
      stat('Chunks with too few replicas', `sum(collective_member_under_replicated_chunks${MEMBER})`, 'chunks'),
      stat('Coordinators that do not answer', `sum(1 - collective_coordinator_reachable${MEMBER})`, 'coordinators'),
      lines('Ready', 12, 'short', [`collective_member_ready${MEMBER}`, '{{namespace}}/{{member}}']),
      lines('Nodes that are missing', 12, 'short', [
        `collective_member_nodes_desired${MEMBER} - collective_member_nodes_ready${MEMBER}`,
        '{{namespace}}/{{member}}',
      ]),
    ],
  },
  {
    title: 'Room and replicas',
    panels: [
      lines('Used', 12, 'bytes', [`collective_member_used_bytes${MEMBER}`, '{{namespace}}/{{member}}']),
      lines('Used, of what there is', 12, 'percentunit', [
        `collective_member_used_bytes${MEMBER} / collective_member_capacity_bytes${MEMBER}`,
        '{{namespace}}/{{member}}',
      ]),
      lines('Chunks with too few replicas', 12, 'short', [
        `collective_member_under_replicated_chunks${MEMBER}`,
        '{{namespace}}/{{member}}',
      ]),
      lines(
        'Chunks without a sound copy, lost blocks',
        12,
        'short',
        [`collective_member_unreadable_chunks${MEMBER}`, '{{namespace}}/{{member}} without a sound copy'],
        [`collective_member_lost_blocks${MEMBER}`, '{{namespace}}/{{member}} lost'],
      ),
    ],
  },
  {
    title: 'Certificates',
    panels: [
      lines('Life left, shortest of each member', 12, 's', [
        `min by (namespace, member) (collective_member_certificate_not_after_seconds${MEMBER}) - time()`,
        '{{namespace}}/{{member}}',
      ]),
      lines('Generation of the authority', 12, 'short', [
        `collective_member_ca_generation${MEMBER}`,
        '{{namespace}}/{{member}}',
      ]),
    ],
  },
  {
    title: 'Operator',
    panels: [
      lines('Reconciles a second', 8, 'ops', [
        'sum by (controller, result) (rate(controller_runtime_reconcile_total[5m]))',
        '{{controller}} {{result}}',
      ]),
      lines(
        'Time of a reconcile',
        8,
        's',
        ...[0.5, 0.99].map((share): [string, string] => [
          `histogram_quantile(${share}, sum by (le, controller) (rate(controller_runtime_reconcile_time_seconds_bucket[5m])))`,
          `{{controller}} p${share * 100}`,
        ]),
      ),
      lines('Waiting', 8, 'short', ['sum by (name) (workqueue_depth)', '{{name}}']),
      lines('Calls to the apiserver a second', 12, 'ops', [
        'sum by (method, code) (rate(rest_client_requests_total[5m]))',
        '{{method}} {{code}}',
      ]),
      lines('Leads', 12, 'short', ['leader_election_master_status', '{{pod}}']),
    ],
  },
];

export function dashboard(): object {
  return {
    uid: 'collective-members',
    title: 'Collective',
    tags: ['collective'],
    schemaVersion: 39,
    editable: true,
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    templating: {
      list: [
        { name: 'source', label: 'Data source', type: 'datasource', query: 'prometheus' },
        labelVariable('namespace', 'label_values(collective_member_ready, namespace)'),
        labelVariable('member', 'label_values(collective_member_ready{namespace=~"$namespace"}, member)'),
      ],
    },
    panels: panels(),
  };
}

function panels(): object[] {
  const placed: object[] = [];
  let y = 0;
  for (const { title, panels: row } of ROWS) {
    placed.push({ id: placed.length + 1, type: 'row', title, gridPos: { x: 0, y, w: ROW_WIDTH, h: 1 }, panels: [] });
    y += 1;
    let x = 0;
    for (const panel of row) {
      if (x + panel.width > ROW_WIDTH) {
        x = 0;
        y += PANEL_HEIGHT;
      }
      placed.push(grafanaPanel(panel, placed.length + 1, { x, y, w: panel.width, h: PANEL_HEIGHT }));
      x += panel.width;
    }
    y += PANEL_HEIGHT;
  }
  return placed;
}

function grafanaPanel({ title, type, unit = 'short', queries }: Panel, id: number, gridPos: object): object {
  return {
    id,
    type,
    title,
    gridPos,
    datasource: { type: 'prometheus', uid: '$source' },
    fieldConfig: { defaults: { unit }, overrides: [] },
    targets: queries.map(({ expression, legend }, index) => ({
      refId: String.fromCodePoint(65 + index),
      expr: expression,
      legendFormat: legend,
    })),
  };
}

function labelVariable(name: string, query: string): object {
  return {
    name,
    type: 'query',
    datasource: { type: 'prometheus', uid: '$source' },
    query: { query, refId: name },
    refresh: 2,
    includeAll: true,
    multi: true,
    current: { text: ['All'], value: ['$__all'] },
  };
}

function stat(title: string, expression: string, legend: string): Panel {
  return { title, type: 'stat', width: 6, queries: [{ expression, legend }] };
}

function lines(
  title: string,
  width: number,
  unit: NonNullable<Panel['unit']>,
  ...queries: readonly (readonly [expression: string, legend: string])[]
): Panel {
  return {
    title,
    type: 'timeseries',
    width,
    unit,
    queries: queries.map(([expression, legend]) => ({ expression, legend })),
  };
}
