/** Authorities and leaves of members as rows, soonest end first within a member. Pure. */
import { formatDurationMs } from '@collective/base/duration';
import type { RowsView } from '../output/table.ts';
import type { KubeObject } from './kube-object.ts';
import { authorityName, type Condition, leavesOf, MEMBER_LABEL, type MemberObject } from './member-object.ts';

const DAY_MS = 86_400_000;
/** Authorities live for years, leaves for weeks: renewed at two thirds of their life, what is this near its end is stuck. */
const AUTHORITY_WARNING_MS = 90 * DAY_MS;
const LEAF_WARNING_MS = 3 * DAY_MS;

export interface CertificateRow {
  readonly namespace: string;
  readonly member: string;
  readonly name: string;
  readonly kind: 'authority' | 'leaf';
  readonly generation?: number;
  readonly notAfter?: string;
  readonly leftMs?: number;
  readonly state: 'valid' | 'expires soon' | 'expired' | 'retiring' | 'old authority' | 'unknown';
  /** What cert-manager says of it, when it was asked. */
  readonly issuance?: string;
  readonly fingerprint?: string;
}

export function certificateRows(
  members: readonly MemberObject[],
  certificates: readonly KubeObject[],
  nowMs: number,
): CertificateRow[] {
  return members.flatMap((member) => rowsOf(member, certificates, nowMs));
}

function rowsOf(seenMember: MemberObject, certificates: readonly KubeObject[], nowMs: number): CertificateRow[] {
  const { metadata, status } = seenMember;
  const { name: member, namespace = '' } = metadata;
  const newest = status?.ca?.generation;
  const row = (
    kind: CertificateRow['kind'],
    name: string,
    seen: { generation?: number; notAfter?: string; fingerprint?: string },
  ): CertificateRow => {
    const endMs = Date.parse(seen.notAfter ?? '');
    const leftMs = Number.isNaN(endMs) ? undefined : endMs - nowMs;
    const isOld = newest !== undefined && seen.generation !== undefined && seen.generation < newest;
    return {
      namespace,
      member,
      name,
      kind,
      generation: seen.generation,
      notAfter: seen.notAfter,
      leftMs,
      state: stateOf(kind, leftMs, isOld),
      issuance: issuanceOf(certificates, namespace, name),
      fingerprint: seen.fingerprint,
    };
  };
  const authorities = (status?.ca?.generations ?? []).map((one) =>
    row('authority', authorityName(member, one.generation), one),
  );
  const leaves = leavesOf(seenMember).map((one) => row('leaf', one.name, one));
  const known = new Set([...authorities, ...leaves].map(({ name }) => name));
  // What cert-manager was asked for and the operator has not seen yet.
  const waiting = certificates
    .filter(({ metadata: { namespace: at, labels } }) => at === metadata.namespace && labels?.[MEMBER_LABEL] === member)
    .filter(({ metadata: { name } }) => !known.has(name))
    .map((one) => {
      const { isCA } = (one.spec ?? {}) as { isCA?: boolean };
      const { notAfter } = (one.status ?? {}) as { notAfter?: string };
      return row(isCA ? 'authority' : 'leaf', one.metadata.name, { notAfter });
    });
  const bySoonest = (a: CertificateRow, b: CertificateRow): number =>
    (a.leftMs ?? Number.NEGATIVE_INFINITY) - (b.leftMs ?? Number.NEGATIVE_INFINITY) || (a.name < b.name ? -1 : 1);
  return [...authorities, ...[...leaves, ...waiting].sort(bySoonest)];
}

function stateOf(kind: CertificateRow['kind'], leftMs: number | undefined, isOld: boolean): CertificateRow['state'] {
  if (leftMs === undefined) return 'unknown';
  if (leftMs <= 0) return 'expired';
  if (isOld) return kind === 'authority' ? 'retiring' : 'old authority';
  return leftMs <= (kind === 'authority' ? AUTHORITY_WARNING_MS : LEAF_WARNING_MS) ? 'expires soon' : 'valid';
}

function issuanceOf(certificates: readonly KubeObject[], namespace: string, name: string): string | undefined {
  const found = certificates.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace);
  if (found === undefined) return undefined;
  const { conditions = [] } = (found.status ?? {}) as { conditions?: readonly Condition[] };
  const ready = conditions.find(({ type }) => type === 'Ready');
  const issuing = conditions.find(({ type, status }) => type === 'Issuing' && status === 'True');
  if (issuing !== undefined) return `issuing: ${issuing.reason ?? ''}`.trim();
  return ready?.status === 'True' ? 'ready' : `not ready: ${ready?.message ?? ready?.reason ?? 'nothing said yet'}`;
}

export function certificateView(allNamespaces: boolean): RowsView<CertificateRow> {
  return {
    columns: [
      ...(allNamespaces ? [{ header: 'NAMESPACE', cell: ({ namespace }: CertificateRow) => namespace }] : []),
      { header: 'MEMBER', cell: ({ member }) => member },
      { header: 'CERTIFICATE', cell: ({ name }) => name },
      { header: 'KIND', cell: ({ kind }) => kind },
      { header: 'CA', cell: ({ generation }) => (generation === undefined ? '-' : String(generation)), align: 'right' },
      { header: 'EXPIRES IN', cell: ({ leftMs }) => leftText(leftMs) },
      { header: 'STATE', cell: ({ state }) => state },
      { header: 'NOT AFTER', cell: ({ notAfter }) => notAfter ?? '-', wide: true },
      { header: 'CERT-MANAGER', cell: ({ issuance }) => issuance ?? '-', wide: true },
      { header: 'SHA-256', cell: ({ fingerprint }) => fingerprint ?? '-', wide: true },
    ],
    name: ({ name }) => `certificate.cert-manager.io/${name}`,
  };
}

export function leftText(leftMs: number | undefined): string {
  if (leftMs === undefined) return '-';
  return leftMs <= 0 ? `EXPIRED ${formatDurationMs(-leftMs)} ago` : formatDurationMs(leftMs);
}
