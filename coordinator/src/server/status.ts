/** The answer to "how is this member": figures gathered from the parts that know them (D8: also what is not well). */
import type { Clock, Timestamp } from '@collective/base/clock';
import type { CertificateStatus, Status } from '@collective/protocol/gen/admin';
import type { Trust } from '@collective/protocol/tls/trust-files';
import type { MemberState } from '../member-state.ts';
import { prefixEnd } from '../tables/table.ts';
import { UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';

export interface StatusParts {
  readonly clock: Clock;
  readonly state: MemberState;
  readonly trust: Trust;
  readonly member: string;
  readonly trustDomain: string;
  readonly version: string;
  readonly started: Timestamp;
}

/** Counted up to here; beyond, "at least" is enough for a person. */
const COUNTED_MAX = 10_000;

export async function gatherStatus(parts: StatusParts): Promise<Status> {
  const { state, clock } = parts;
  const { engine } = state.core;
  const counted = await engine.run((tx) => ({
    under: tx.scan(UNDER_REPLICATED, UNDER_REPLICATED.prefix, prefixEnd(UNDER_REPLICATED.prefix), COUNTED_MAX).length,
    unstable: tx.scan(UNSTABLE, UNSTABLE.prefix, prefixEnd(UNSTABLE.prefix), COUNTED_MAX).length,
  }));
  const nodes = state.nodes.status();
  const space = state.nodes.space();
  const { directories, inodes, trashBytes, trashInodes: trashFiles } = engine.totalUsage;
  return {
    member: parts.member,
    trustDomain: parts.trustDomain,
    version: parts.version,
    epoch: engine.epoch,
    started: parts.started,
    logPosition: engine.writtenPosition,
    stablePosition: engine.stablePosition,
    sessions: state.core.figures.sessions,
    nodes,
    capacityBytes: space.capacityBytes,
    usedBytes: space.usedBytes,
    files: inodes - trashFiles - directories,
    directories,
    trashBytes,
    trashFiles,
    replication: {
      replicas: nodes.reduce((sum, node) => sum + node.chunks, 0),
      underReplicated: counted.under,
      unstable: counted.unstable,
      lost: state.events.latest.filter(({ kind }) => kind === 'block-reverted').length,
    },
    certificates: certificates(parts, nodes),
    time: clock.now(),
    events: state.events.latest.map((event) => ({ ...event, details: { ...event.details } })),
  };
}

function certificates({ trust, trustDomain }: StatusParts, nodes: Status['nodes']): CertificateStatus[] {
  const stamp = (ms: number): Timestamp => ({ seconds: Math.floor(ms / 1000), nanos: 0 });
  const { current } = trust;
  return [
    ...current.roots.map((root) => ({
      subject: root.subject,
      issuer: root.issuer,
      notAfter: stamp(Date.parse(root.validTo)),
      kind: 'ca',
    })),
    { subject: current.id.uri, issuer: trustDomain, notAfter: stamp(current.notAfterMs), kind: 'coordinator' },
    ...nodes.flatMap((node) =>
      node.certificateExpires === undefined
        ? []
        : [
            {
              subject: `spiffe://${trustDomain}/node/${node.name}`,
              issuer: trustDomain,
              notAfter: node.certificateExpires,
              kind: 'node',
            },
          ],
    ),
  ];
}
