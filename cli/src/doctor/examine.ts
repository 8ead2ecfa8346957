/**
 * What a member's facts say to a doctor: a pure function from what was gathered to findings, each with what to do. Nothing
 * here looks at a clock, a network or a file.
 */
import { formatByteSize } from '@collective/base/byte-size';
import { formatDurationMs } from '@collective/base/duration';
import type { MaintenanceSettings, MemberStatus, NodeStatus } from '@collective/client';
import { counted } from '../output/counted.ts';

export type Level = 'ok' | 'warning' | 'problem';

export interface Finding {
  readonly level: Level;
  /** What was looked at: 'clock', 'certificates', 'node node-1', ... */
  readonly about: string;
  readonly says: string;
  /** What to do; only where something is not well. */
  readonly todo?: string;
}

export interface NodeProbe {
  readonly node: string;
  /** Undefined: it answered. */
  readonly error: string | undefined;
  readonly tookMs: number;
}

/** What could be found out; where something could not, what kept it from being. */
export interface Facts {
  readonly nowMs: number;
  readonly program: string;
  readonly context: { readonly name: string; readonly coordinator: string };
  readonly certificate:
    | { readonly state: string; readonly leftMs: number; readonly chain: string }
    | { readonly error: string };
  readonly status: MemberStatus | { readonly error: string; readonly code: string };
  /** Milliseconds between question and answer of the status. */
  readonly statusTookMs: number;
  readonly probes: readonly NodeProbe[];
  /** Undefined: this user may not ask. */
  readonly maintenance: MaintenanceSettings | undefined;
  readonly lastBackupMs: number | undefined;
}

const DAY_MS = 86_400_000;
const CLOCK_DIFFERENCE_MS = 5_000;
const CLOCK_REFUSED_MS = 60_000;
const SET_CLOCKS = 'Let NTP set both clocks (timedatectl set-ntp true).';
const CERTIFICATE_SOON_MS = 7 * DAY_MS;
const CA_SOON_MS = 90 * DAY_MS;
const HEARTBEAT_LATE_MS = 5_000;
const FREE_SHARE_LOW = 0.1;
const METADATA_FREE_LOW_BYTES = 2 * 1024 ** 3;
const METADATA_FREE_LEAST_BYTES = 256 * 1024 ** 2;
const BACKUP_OLD_MS = 7 * DAY_MS;
/** In periods, since the last whole pass ended: one that is begun in time has ended by then. */
const SCRUB_LATE_PERIODS = 2;

export function examine(facts: Facts): Finding[] {
  const own = [ownCertificate(facts)];
  const { status } = facts;
  if ('error' in status) return [...own, unreachable(facts, status)];
  return [
    ...own,
    reachable(facts, status),
    clocks(facts, status),
    ...certificates(facts, status),
    ...status.nodes.flatMap((node) => nodeFindings(facts, status, node)),
    ...refusedStrangers(status),
    ...noNodes(status),
    ...metadataDisk(status),
    ...replication(facts, status),
    ...jobs(status),
    ...garbage(status),
    ...maintenance(facts),
    ...backup(facts),
  ];
}

function ownCertificate({ certificate, context }: Facts): Finding {
  const about = 'your certificate';
  if ('error' in certificate)
    return {
      level: 'problem',
      about,
      says: certificate.error,
      todo: `Enrol again: collective init ${context.name} ...`,
    };
  const { state, leftMs, chain } = certificate;
  if (!chain.startsWith('verified'))
    return { level: 'problem', about, says: chain, todo: 'Enrol again with the member’s present trust bundle.' };
  if (state === 'expired' || state === 'not yet valid')
    return {
      level: 'problem',
      about,
      says: `it is ${state}`,
      todo: 'Check the clock of this machine; then enrol again.',
    };
  if (state === 'expires soon')
    return { level: 'warning', about, says: `${formatDurationMs(leftMs)} left`, todo: 'collective auth renew' };
  return { level: 'ok', about, says: `valid, ${formatDurationMs(leftMs)} left` };
}

function unreachable({ context }: Facts, { error, code }: { error: string; code: string }): Finding {
  const todo =
    code === 'unauthenticated' || code === 'permission_denied'
      ? 'The coordinator is there and does not take your certificate: collective auth info, then enrol again.'
      : `Is it running, and is ${context.coordinator} its address? On its machine: collective up, or look at logs/coordinator.log.`;
  return { level: 'problem', about: 'coordinator', says: error, todo };
}

function reachable(facts: Facts, status: MemberStatus): Finding {
  const about = 'coordinator';
  if (status.version !== facts.program)
    return {
      level: 'warning',
      about,
      says: `it runs version ${status.version}, this program is ${facts.program}`,
      todo: 'Versions that follow each other work together; upgrade the older one.',
    };
  return { level: 'ok', about, says: `version ${status.version}, answered in ${facts.statusTookMs} ms` };
}

function clocks({ nowMs, statusTookMs }: Facts, status: MemberStatus): Finding {
  const about = 'clocks';
  const theirsMs = status.time === undefined ? nowMs : status.time.seconds * 1000 + status.time.nanos / 1e6;
  const offMs = Math.max(0, Math.abs(nowMs - theirsMs) - statusTookMs);
  const says = `this machine and the coordinator differ by ${formatDurationMs(Math.round(offMs))}`;
  if (offMs > CLOCK_REFUSED_MS) return { level: 'problem', about, says, todo: SET_CLOCKS };
  if (offMs > CLOCK_DIFFERENCE_MS) return { level: 'warning', about, says, todo: SET_CLOCKS };
  return { level: 'ok', about, says: offMs < 1_000 ? 'this machine and the coordinator agree' : says };
}

function certificates({ nowMs }: Facts, status: MemberStatus): Finding[] {
  return status.certificates.flatMap(({ kind, subject, notAfter }): Finding[] => {
    if (notAfter === undefined) return [];
    const leftMs = notAfter.seconds * 1000 - nowMs;
    const about = kind === 'ca' ? 'authority' : `certificate of ${subject}`;
    const renews =
      kind === 'ca'
        ? 'Plan the next generation of the authority.'
        : 'It should have renewed itself: is the part running, and does it reach the coordinator?';
    if (leftMs <= 0)
      return [{ level: 'problem', about, says: `expired ${formatDurationMs(-leftMs)} ago`, todo: renews }];
    if (leftMs < (kind === 'ca' ? CA_SOON_MS : CERTIFICATE_SOON_MS))
      return [{ level: 'warning', about, says: `${formatDurationMs(leftMs)} left`, todo: renews }];
    return [{ level: 'ok', about, says: `valid, ${formatDurationMs(leftMs)} left` }];
  });
}

function nodeFindings({ nowMs, probes, maintenance }: Facts, status: MemberStatus, node: NodeStatus): Finding[] {
  const about = `node ${node.name}`;
  const findings: Finding[] = [];
  const heardMs = node.lastHeartbeat === undefined ? undefined : nowMs - node.lastHeartbeat.seconds * 1000;
  const refusal = status.refusedNodes.find(({ name }) => name === node.name);
  const isAway = node.state === 'away' || node.state === 'unknown';
  if (isAway && refusal !== undefined) findings.push(refused(refusal));
  else if (isAway)
    findings.push({
      level: 'problem',
      about,
      says:
        heardMs === undefined
          ? 'it has never reported'
          : `nothing was heard of it for ${formatDurationMs(Math.max(0, heardMs))}`,
      todo: 'Is it running, and can it reach the coordinator? Its log says why not. What it holds is read from other nodes meanwhile.',
    });
  if (node.state === 'full')
    findings.push({
      level: 'problem',
      about,
      says: 'it is full: reads and deletes only',
      todo: 'Give it more capacity, add a node, or remove files and empty the trash.',
    });
  else if (node.capacityBytes > 0 && node.freeBytes < node.capacityBytes * FREE_SHARE_LOW && node.state === 'ready')
    findings.push({
      level: 'warning',
      about,
      says: `only ${formatByteSize(node.freeBytes)} of ${formatByteSize(node.capacityBytes)} are free`,
      todo: 'Add a node, or free some room, before it is full.',
    });
  if (!isAway && Math.abs(node.clockOffMs) > CLOCK_DIFFERENCE_MS)
    findings.push({
      level: 'warning',
      about,
      says: `its clock is ${formatDurationMs(Math.abs(node.clockOffMs))} ${node.clockOffMs > 0 ? 'ahead of' : 'behind'} the coordinator's: from ${formatDurationMs(CLOCK_REFUSED_MS)} on it is refused`,
      todo: SET_CLOCKS,
    });
  const damaged = node.scrub?.damagedNow ?? 0;
  if (damaged > 0)
    findings.push({
      level: 'warning',
      about,
      says: `${damaged} of its chunks are damaged and not repaired yet`,
      todo: 'They are copied anew while other copies can be read: collective status. If it comes again, replace the disk: collective nodes drain.',
    });
  const scrubbed = node.scrub?.lastEnded ?? node.scrub?.passBegan;
  const periodMs = (maintenance?.scrubPeriodSeconds ?? 0) * 1000;
  if (periodMs > 0 && scrubbed !== undefined && nowMs - scrubbed.seconds * 1000 > SCRUB_LATE_PERIODS * periodMs)
    findings.push({
      level: 'warning',
      about,
      says: `not all that it holds was read for ${formatDurationMs(nowMs - scrubbed.seconds * 1000)}, and the scrub period is ${formatDurationMs(periodMs)}`,
      todo: `Was it down for long, or is the period too short for its disk? Read all now: collective nodes scrub ${node.name}; docs/operating/scrub.md`,
    });
  for (const { chunks, says } of node.waiting)
    findings.push({
      level: 'warning',
      about,
      says: `it is to be emptied, and ${chunks} chunks cannot leave it now: ${says}`,
      todo: 'Bring nodes back, add one, or give them room; docs/operating/nodes.md',
    });
  if (node.version !== '' && node.version !== status.version)
    findings.push({
      level: 'warning',
      about,
      says: `it runs version ${node.version}, the coordinator ${status.version}`,
      todo: 'Upgrade the older one.',
    });
  const probe = probes.find((each) => each.node === node.name);
  if (probe?.error !== undefined && node.state !== 'away')
    findings.push({
      level: 'problem',
      about,
      says: `from this machine it cannot be reached: ${probe.error}`,
      todo: 'Check the address that it advertises (collective nodes list -o wide), firewalls and port forwards.',
    });
  if (findings.length > 0) return findings;
  const late =
    heardMs !== undefined && heardMs > HEARTBEAT_LATE_MS ? `, last heard of ${formatDurationMs(heardMs)} ago` : '';
  const reached = probe === undefined ? '' : `, reached in ${probe.tookMs} ms`;
  return [{ level: 'ok', about, says: `${node.state}, ${formatByteSize(node.freeBytes)} free${reached}${late}` }];
}

/** Nodes that the member does not know yet, or no more. */
function refusedStrangers(status: MemberStatus): Finding[] {
  return status.refusedNodes.filter(({ name }) => status.nodes.every((node) => node.name !== name)).map(refused);
}

function refused({ name, code, message }: MemberStatus['refusedNodes'][number]): Finding {
  const todo =
    code === 'clock_wrong'
      ? `${SET_CLOCKS} The node registers again by itself then.`
      : code === 'version_too_new'
        ? 'Upgrade the older one of node and coordinator.'
        : "The node's log and the coordinator's say more.";
  return {
    level: 'problem',
    about: `node ${name}`,
    says: `it is there, and the coordinator refuses it: ${message}`,
    todo,
  };
}

function noNodes(status: MemberStatus): Finding[] {
  if (status.nodes.length > 0) return [];
  return [
    {
      level: 'problem',
      about: 'nodes',
      says: 'no storage node has ever registered',
      todo: 'Start one: collective token create --for node/NAME, then collective node --token ...',
    },
  ];
}

/** Below its reserve the coordinator takes nothing new; without any room it ends, and the member with it. */
function metadataDisk({ metadataCapacityBytes, metadataFreeBytes, metadataFull }: MemberStatus): Finding[] {
  if (metadataFull)
    return [
      {
        level: 'problem',
        about: 'metadata',
        says: `${formatByteSize(metadataFreeBytes)} are left on the coordinator's disk: nothing new is taken, files can be read and removed`,
        todo: 'Make room there, or give it a larger disk: it goes on by itself then; docs/operating/starts.md says more.',
      },
    ];
  if (metadataCapacityBytes === 0 || metadataFreeBytes >= METADATA_FREE_LOW_BYTES) return [];
  return [
    {
      level: metadataFreeBytes < METADATA_FREE_LEAST_BYTES ? 'problem' : 'warning',
      about: 'metadata',
      says: `only ${formatByteSize(metadataFreeBytes)} are left on the coordinator's disk: below 32 MiB nothing new is taken, without any nothing can be changed`,
      todo: 'Make room there now, or give it a larger disk; docs/operating/starts.md says what happens otherwise.',
    },
  ];
}

function replication({ nowMs }: Facts, { replication }: MemberStatus): Finding[] {
  const about = 'replication';
  const { lost, lostLast, unreadable, underReplicated, toMove, waiting, counting } = replication;
  const findings: Finding[] = [];
  if (lost > 0)
    findings.push({
      level: 'problem',
      about,
      says: `${counted(lost, 'block')} lost what was written last${lostLast === undefined ? '' : `, the latest ${formatDurationMs(Math.max(0, nowMs - lostLast.seconds * 1000))} ago`}, and show what was before`,
      todo: 'collective events --kind block-reverted names the files: write them again. Then: collective maintenance settle-losses',
    });
  if (unreadable > 0)
    findings.push({
      level: 'problem',
      about,
      says: `${unreadable} chunks have no sound copy left that can be counted on`,
      todo: 'Bring back a node or disk that has one; collective verify / --only-bad names the files. Restore those from elsewhere, or remove them; docs/operating/repair.md',
    });
  // Those without any sound copy are among the short ones, and repair can do nothing for them.
  const short = underReplicated - unreadable;
  const waits = waiting.map(({ chunks, says }) => `; ${chunks} wait: ${says}`).join('');
  if (short > 0)
    findings.push({
      level: 'warning',
      about,
      says: `${short} chunks have fewer replicas than they should${waits}`,
      todo: 'Repair makes them anew while enough nodes are there: collective status --watch. Is a node missing or full?',
    });
  else if (toMove > 0 && unreadable === 0 && waits !== '')
    findings.push({
      level: 'warning',
      about,
      says: `${toMove} chunks do not lie where they should${waits}`,
      todo: 'They go on by themselves when what they wait for is there; docs/operating/repair.md says what each word means.',
    });
  if (findings.length > 0) return findings;
  const again = counting ? ', as far as they are counted: all chunks are being looked at again' : '';
  return [{ level: 'ok', about, says: `every chunk has its replicas${again}` }];
}

function jobs({ jobs }: MemberStatus): Finding[] {
  return jobs
    .filter(({ state }) => state === 'failing')
    .map(({ name, failure }) => ({
      level: 'warning',
      about: `job ${name}`,
      says: `its last round failed: ${failure}`,
      todo: "It is tried again within a minute. If it fails on and on, the coordinator's log has the whole error; docs/operating/health.md says what the job is for.",
    }));
}

function garbage({ garbage, nodes }: MemberStatus): Finding[] {
  const isAway = (name: string): boolean => nodes.some((node) => node.name === name && node.state === 'away');
  return garbage.waitsFor
    .filter(({ node }) => !isAway(node))
    .map(({ node, reason }) => ({
      level: 'warning',
      about: 'garbage',
      says: `node ${node} could not be told to forget what was removed: ${reason}`,
      todo: 'It is told again every ten minutes, and gives the room back then; docs/operating/space.md',
    }));
}

function maintenance({ maintenance }: Facts): Finding[] {
  if (maintenance === undefined) return [];
  const findings: Finding[] = [];
  if (maintenance.garbageWaits)
    findings.push({
      level: 'warning',
      about: 'garbage',
      says: 'nothing is collected since the member was restored from a backup',
      todo: 'Look at collective garbage orphans, then: collective maintenance set garbage-waits=false',
    });
  if (maintenance.scrubPeriodSeconds === 0)
    findings.push({
      level: 'warning',
      about: 'scrub',
      says: 'it is off: silent damage on disks is found only when somebody reads',
      todo: 'collective maintenance set scrub-period=30d',
    });
  return findings;
}

function backup({ lastBackupMs, nowMs, maintenance }: Facts): Finding[] {
  // Who may not ask for settings may not make backups either.
  if (maintenance === undefined) return [];
  const todo = 'collective backup create FILE; docs/operating/backup.md says how to do it every hour.';
  if (lastBackupMs === undefined)
    return [
      {
        level: 'warning',
        about: 'backup',
        says: 'none was made of the metadata, as far as the events that are kept tell',
        todo,
      },
    ];
  const ageMs = nowMs - lastBackupMs;
  const says = `the last one was made ${formatDurationMs(Math.max(0, ageMs))} ago`;
  if (ageMs > BACKUP_OLD_MS) return [{ level: 'warning', about: 'backup', says, todo }];
  return [{ level: 'ok', about: 'backup', says }];
}
