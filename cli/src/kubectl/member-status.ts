/** What `kubectl collective status MEMBER` says: lines about the whole, then nodes, what is not well, and what happened. Pure. */
import { counted } from '../output/counted.ts';
import type { RowsView } from '../output/table.ts';
import { certificateRows, leftText } from './certificate-rows.ts';
import type { KubeObject } from './kube-object.ts';
import { healthText } from './member-health.ts';
import type { Condition, MemberObject, NodeSeen } from './member-object.ts';
import { ageOf } from './moments.ts';
import { quantityText, usedOf } from './quantity.ts';

export function statusLines(member: MemberObject, nowMs: number): [string, string][] {
  const { metadata, spec, status } = member;
  const certificates = certificateRows([member], [], nowMs);
  const bad = certificates.filter(({ state }) => state === 'expired' || state === 'expires soon');
  const first = certificates.find(({ kind }) => kind === 'leaf');
  const lines: [string, string | undefined][] = [
    ['Member', `${metadata.name} (${status?.trustDomain ?? 'no trust domain yet'}) in namespace ${metadata.namespace}`],
    ['Health', healthText(member)],
    ['Coordinator', coordinatorText(member)],
    ['Nodes', spec?.external === undefined ? `${status?.nodesReady ?? '-'} ready` : undefined],
    ['Space', usedOf(status?.used, status?.capacity)],
    ['Replication', replicationText(member)],
    ['Authority', authorityText(member, nowMs)],
    [
      'Certificates',
      bad.length > 0
        ? `${counted(bad.length, 'certificate')} to look at: ${bad.map(({ name, state }) => `${name} (${state})`).join(', ')}`
        : first === undefined
          ? 'none yet'
          : `${certificates.length}, the first expires in ${leftText(first.leftMs)}`,
    ],
    ['Inside', status?.endpoints?.internal],
    ['Outside', status?.endpoints?.external],
    ['Backup', backupText(member, nowMs)],
    ['Restored', restoredText(member, nowMs)],
  ];
  return lines.flatMap(([key, value]): [string, string][] => (value === undefined ? [] : [[key, value]]));
}

function coordinatorText({ spec, status }: MemberObject): string {
  if (spec?.external !== undefined) return `external, at ${spec.external.endpoint ?? '-'}`;
  const version = status?.version === undefined ? '' : `, version ${status.version}`;
  return `${status?.coordinator?.state ?? '-'}${version}`;
}

function replicationText({ status }: MemberObject): string | undefined {
  const { underReplicated = 0, unreadable = 0, toMove = 0, lost = 0, counting = false } = status?.replication ?? {};
  if (status?.replication === undefined) return undefined;
  // They do not change by being counted.
  const losses = lost > 0 ? [`${counted(lost, 'block')} LOST what was written last`] : [];
  if (counting) return [...losses, 'being counted'].join(', ');
  const parts = [
    ...losses,
    ...(unreadable > 0 ? [`${unreadable} UNREADABLE`] : []),
    ...(underReplicated > 0 ? [`${underReplicated} with too few copies`] : []),
    ...(toMove > 0 ? [`${toMove} to move`] : []),
  ];
  return parts.length === 0 ? 'all chunks have their copies' : parts.join(', ');
}

export function authorityText({ status }: MemberObject, nowMs: number): string {
  const { ca } = status ?? {};
  if (ca?.generation === undefined) return 'none yet';
  const trusted = (ca.generations ?? []).map(({ generation }) => `g${generation}`).join(', ');
  const step = ca.phase === undefined || ca.phase === 'Stable' ? '' : `, ${ca.phase} for ${ageOf(ca.since, nowMs)}`;
  return `generation ${ca.generation}${step}${trusted === '' ? '' : `; trusted: ${trusted}`}`;
}

function backupText({ status }: MemberObject, nowMs: number): string | undefined {
  const { backup } = status ?? {};
  if (backup === undefined) return undefined;
  const ended = backup.lastSuccess === undefined ? 'none yet' : `the last one ${ageOf(backup.lastSuccess, nowMs)} ago`;
  const failed =
    backup.lastFailure !== undefined && !(backup.lastSuccess !== undefined && backup.lastSuccess > backup.lastFailure);
  return failed ? `${ended}; FAILED ${ageOf(backup.lastFailure, nowMs)} ago: ${backup.message ?? ''}` : ended;
}

function restoredText({ status }: MemberObject, nowMs: number): string | undefined {
  const { restored, garbageWaits = false } = status?.coordinator ?? {};
  const waits = 'nothing is removed from nodes until you say: collective maintenance set garbage-waits=false';
  if (restored === undefined) return garbageWaits ? `from a backup; ${waits}` : undefined;
  const when = restored.at === undefined ? '' : `, ${ageOf(restored.at, nowMs)} ago`;
  return `from ${restored.file ?? restored.order}${when}${garbageWaits ? `; ${waits}` : ''}`;
}

/** Those of which the good answer is no. */
const ABNORMAL_WHEN_TRUE = new Set(['Reconciling', 'Stalled', 'Upgrading']);

export function notWell({ status }: MemberObject): Condition[] {
  return (status?.conditions ?? []).filter(
    ({ type, status: is }) => is !== (ABNORMAL_WHEN_TRUE.has(type) ? 'False' : 'True'),
  );
}

export const NODE_VIEW: RowsView<NodeSeen> = {
  columns: [
    { header: 'NODE', cell: ({ name }) => name },
    { header: 'STATE', cell: ({ state }) => state ?? '-' },
    { header: 'USED', cell: ({ used }) => quantityText(used), align: 'right' },
    { header: 'CAPACITY', cell: ({ capacity }) => quantityText(capacity), align: 'right' },
    { header: 'LEFT TO MOVE', cell: ({ leftChunks }) => (leftChunks === undefined ? '-' : String(leftChunks)) },
    { header: 'POOL', cell: ({ pool }) => pool ?? '-', wide: true },
    { header: 'IMAGE', cell: ({ image }) => image ?? '-', wide: true },
  ],
  name: ({ name }) => name,
};

export function conditionView(nowMs: number): RowsView<Condition> {
  return {
    columns: [
      { header: 'CONDITION', cell: ({ type }) => type },
      { header: 'STATUS', cell: ({ status }) => status },
      { header: 'FOR', cell: ({ lastTransitionTime }) => ageOf(lastTransitionTime, nowMs) },
      { header: 'REASON', cell: ({ reason }) => reason ?? '-' },
      { header: 'MESSAGE', cell: ({ message }) => message ?? '' },
    ],
    name: ({ type }) => type,
  };
}

export interface EventRow {
  readonly time?: string;
  readonly type: string;
  readonly reason: string;
  readonly about: string;
  readonly message: string;
}

/** Newest first. */
export function eventRows(events: readonly KubeObject[]): EventRow[] {
  return events
    .map((event) => {
      const { type, reason, message, involvedObject, series, lastTimestamp, eventTime } = event as KubeEvent;
      return {
        time: series?.lastObservedTime ?? lastTimestamp ?? eventTime ?? event.metadata.creationTimestamp ?? undefined,
        type: type ?? '-',
        reason: reason ?? '-',
        about: `${involvedObject?.kind ?? '-'}/${involvedObject?.name ?? '-'}`,
        message: message ?? '',
      };
    })
    .sort((a, b) => Date.parse(b.time ?? '') - Date.parse(a.time ?? ''));
}

type KubeEvent = KubeObject & {
  readonly type?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly involvedObject?: { readonly kind?: string; readonly name?: string };
  readonly series?: { readonly lastObservedTime?: string };
  readonly lastTimestamp?: string | null;
  readonly eventTime?: string | null;
};

export function eventView(nowMs: number): RowsView<EventRow> {
  return {
    columns: [
      { header: 'AGE', cell: ({ time }) => ageOf(time, nowMs) },
      { header: 'TYPE', cell: ({ type }) => type },
      { header: 'EVENT', cell: ({ reason }) => reason },
      { header: 'OBJECT', cell: ({ about }) => about, wide: true },
      { header: 'MESSAGE', cell: ({ message }) => message },
    ],
    name: ({ reason }) => reason,
  };
}
