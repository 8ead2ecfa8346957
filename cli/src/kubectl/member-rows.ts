/** Members as rows: what `kubectl get members` shows is the operator's; this adds one word of health, and why. Pure. */
import type { RowsView } from '../output/table.ts';
import { certificateRows, leftText } from './certificate-rows.ts';
import { type HealthWord, healthOf } from './member-health.ts';
import type { MemberObject } from './member-object.ts';
import { ageOf } from './moments.ts';
import { usedOf } from './quantity.ts';

export interface MemberRow {
  readonly namespace: string;
  readonly name: string;
  readonly collective: string;
  readonly trustDomain: string;
  readonly health: HealthWord;
  readonly why?: string;
  readonly coordinator: string;
  readonly nodesReady: string;
  readonly used?: string;
  readonly capacity?: string;
  readonly caGeneration?: number;
  readonly caPhase?: string;
  readonly firstExpiryMs?: number;
  readonly version?: string;
  readonly created?: string;
}

export function memberRow(member: MemberObject, nowMs: number): MemberRow {
  const { metadata, spec, status } = member;
  const { word, why } = healthOf(member);
  const ends = certificateRows([member], [], nowMs).flatMap(({ leftMs }) => leftMs ?? []);
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    collective: spec?.collectiveRef?.name ?? '-',
    trustDomain: status?.trustDomain ?? '-',
    health: word,
    why,
    coordinator: spec?.external === undefined ? (status?.coordinator?.state ?? '-') : 'external',
    nodesReady: status?.nodesReady ?? '-',
    used: status?.used,
    capacity: status?.capacity,
    caGeneration: status?.ca?.generation,
    caPhase: status?.ca?.phase,
    firstExpiryMs: ends.length === 0 ? undefined : Math.min(...ends),
    version: status?.version,
    created: metadata.creationTimestamp,
  };
}

export function memberView(allNamespaces: boolean, nowMs: number): RowsView<MemberRow> {
  return {
    columns: [
      ...(allNamespaces ? [{ header: 'NAMESPACE', cell: ({ namespace }: MemberRow) => namespace }] : []),
      { header: 'NAME', cell: ({ name }) => name },
      { header: 'HEALTH', cell: ({ health }) => health },
      { header: 'COORDINATOR', cell: ({ coordinator }) => coordinator },
      { header: 'NODES', cell: ({ nodesReady }) => nodesReady },
      { header: 'USED', cell: ({ used, capacity }) => usedOf(used, capacity) },
      { header: 'CA', cell: caText },
      { header: 'FIRST EXPIRY', cell: ({ firstExpiryMs }) => leftText(firstExpiryMs) },
      { header: 'AGE', cell: ({ created }) => ageOf(created, nowMs) },
      { header: 'COLLECTIVE', cell: ({ collective }) => collective, wide: true },
      { header: 'TRUST DOMAIN', cell: ({ trustDomain }) => trustDomain, wide: true },
      { header: 'VERSION', cell: ({ version }) => version ?? '-', wide: true },
      { header: 'WHY', cell: ({ why }) => why ?? '', wide: true },
    ],
    name: ({ name }) => `member.collective.storage/${name}`,
  };
}

/** `g3`, and while it is being rotated `g3 Distributing`. */
function caText({ caGeneration, caPhase }: MemberRow): string {
  if (caGeneration === undefined) return '-';
  return caPhase === undefined || caPhase === 'Stable' ? `g${caGeneration}` : `g${caGeneration} ${caPhase}`;
}
