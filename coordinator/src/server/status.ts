/** The answer to "how is this member": figures gathered from the parts that know them (D8: also what is not well). */
import type { Clock, Timestamp } from '@collective/base/clock';
import type { DiskSpace } from '@collective/base/disk';
import type { CertificateStatus, JobStatus, Status } from '@collective/protocol/gen/admin';
import { spiffeId } from '@collective/protocol/tls/spiffe-id';
import type { Trust } from '@collective/protocol/tls/trust-files';
import type { KeeperFigures } from '../jobs/keeper.ts';
import type { MemberState } from '../member-state.ts';
import { type TrustPicture, trustStatus } from '../membership/trust-report.ts';
import type { GarbageAdmin } from './garbage-admin.ts';
import { replicationHealth, withDrain } from './replication-health.ts';

export interface StatusParts {
  readonly clock: Clock;
  readonly state: MemberState;
  /** Of the disk that holds the metadata. */
  diskSpace(): Promise<DiskSpace>;
  readonly garbage: Pick<GarbageAdmin, 'status'>;
  readonly trust: Trust;
  readonly member: string;
  readonly trustDomain: string;
  readonly version: string;
  readonly started: Timestamp;
  /** Of the port (T6). */
  connectionsByRoot(): TrustPicture['connections'];
}

export async function gatherStatus(parts: StatusParts): Promise<Status> {
  const { state, clock } = parts;
  const { engine } = state.core;
  const replication = await replicationHealth(state);
  const metadata = await parts.diskSpace();
  const nodes = state.nodes.status().map((node) => withDrain(node, state.background));
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
    refusedNodes: state.nodes.refusals(),
    capacityBytes: space.capacityBytes,
    usedBytes: space.usedBytes,
    files: inodes - trashFiles - directories,
    directories,
    trashBytes,
    trashFiles,
    replication,
    certificates: certificates(parts, nodes),
    time: clock.now(),
    events: state.events.latest.map((event) => ({ ...event, details: { ...event.details } })),
    garbage: await parts.garbage.status(),
    metadataCapacityBytes: metadata.capacityBytes,
    metadataFreeBytes: metadata.freeBytes,
    metadataFull: state.room.isFull,
    trust: trustStatus({
      own: parts.trust.current,
      nodes: state.nodes.names.map((node) => ({
        peer: spiffeId(parts.trust.current.id.trustDomain, 'node', node).uri,
        bundleHash: state.nodes.get(node)?.report?.bundleHash ?? '',
        leaf: state.links.leafOf(node),
      })),
      sessions: state.core.sessionTrust(),
      connections: parts.connectionsByRoot(),
    }),
    jobs: state.background.figures.map((figures) => jobStatus(figures, clock.bootMs())),
  };
}

function jobStatus({ beganMs, endedMs, total, failure, ...figures }: KeeperFigures, nowMs: number): JobStatus {
  const sinceMs = endedMs ?? beganMs;
  return {
    ...figures,
    total,
    sinceSeconds: sinceMs === undefined ? undefined : Math.max(0, Math.round((nowMs - sinceMs) / 1000)),
    failure: failure ?? '',
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
