/** `collective status`: one look at the whole member; `--watch` looks again every two seconds. */

import { formatByteSize } from '@collective/base/byte-size';
import { sleep, type Timestamp } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import type { MemberStatus, NodeScrub, NodeStatus } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { counted } from '../output/counted.ts';
import { garbageText } from '../output/garbage-view.ts';
import { nodeObject, nodeView } from '../output/node-view.ts';
import { JOBS_VIEW, replicationLines } from '../output/replication-view.ts';
import { printOne, printRows } from '../output/table.ts';
import { age, isoTime } from '../output/time.ts';
import { type Shell, say, writeOut } from '../shell.ts';
import { duration, verb } from '../verb.ts';

const WATCH_EVERY_MS = 2_000;
const EVENTS_SHOWN = 5;
const CLEAR_SCREEN = '\u001b[H\u001b[2J\u001b[3J';

export function statusCommand(shell: Shell): Command {
  return verb('status', {
    summary: 'show member, coordinator, nodes, replication and certificates',
    examples: [
      { line: 'collective status', says: 'one look' },
      { line: 'collective status --watch', says: 'again every two seconds until Ctrl-C' },
      { line: 'collective status -o json', says: 'for programs' },
    ],
  })
    .option('-w, --watch', 'look again and again')
    .addOption(duration('--every <duration>', 'how often to look with --watch', WATCH_EVERY_MS))
    .action(async (options: { watch?: boolean; every: number }, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        for (let looked = false; ; looked = true) {
          let status: MemberStatus;
          try {
            status = await admin.status({ signal });
          } catch (thrown) {
            // Who watches a member wants to see it come back.
            if (!options.watch || !looked || !isOutOfReach(thrown)) throw thrown;
            await say(shell, `${isoTime(shell.clock.now())}: ${thrown.message}`);
            await sleep(shell.clock, options.every, signal);
            continue;
          }
          const screen = options.watch && shell.stdout.isTTY && globals.output === 'table';
          if (screen) await writeOut(shell.stdout, CLEAR_SCREEN);
          if (globals.output === 'table' || globals.output === 'wide') {
            await printStatus(shell, status, globals.output);
          } else {
            await printOne(shell, globals.output, status, {
              columns: [],
              name: ({ member }) => member,
              object: statusObject,
            });
          }
          if (!options.watch) return;
          if (!screen) await writeOut(shell.stdout, '\n');
          await sleep(shell.clock, options.every, signal);
        }
      });
    });
}

function isOutOfReach(thrown: unknown): thrown is CollectiveError {
  return thrown instanceof CollectiveError && (thrown.code === 'unavailable' || thrown.code === 'deadline_exceeded');
}

async function printStatus(shell: Shell, status: MemberStatus, format: 'table' | 'wide'): Promise<void> {
  const now = status.time ?? shell.clock.now();
  const lines: [string, string][] = [
    ['Member', `${status.member} (${status.trustDomain})`],
    ['Health', healthOf(status, now)],
    [
      'Coordinator',
      `version ${status.version}, up ${age(status.started, now)}, epoch ${status.epoch.generation}.${status.epoch.start}, ${counted(status.sessions, 'session')}`,
    ],
    [
      'Space',
      `${formatByteSize(status.usedBytes)} used of ${formatByteSize(status.capacityBytes)}, all replicas counted`,
    ],
    [
      'Content',
      `${counted(status.files, 'file')}, ${counted(status.directories, 'directory', 'directories')}; in the trash ${status.trashFiles} with ${formatByteSize(status.trashBytes)}`,
    ],
    ...replicationLines(status),
    ['Garbage', garbageText(status.garbage)],
    ['Scrub', scrubLine(status.nodes, now)],
    ['Trust', trustText(status)],
    [
      'Metadata',
      `${formatByteSize(status.metadataFreeBytes)} left on the coordinator's disk${status.metadataFull ? ': nothing new is taken until there is more' : ''}`,
    ],
    ['Log', `position ${status.logPosition}, stable to ${status.stablePosition}`],
  ];
  const width = Math.max(...lines.map(([key]) => key.length)) + 2;
  await writeOut(shell.stdout, lines.map(([key, value]) => `${`${key}:`.padEnd(width)}${value}\n`).join(''));

  await writeOut(shell.stdout, '\n');
  if (status.nodes.length === 0) await writeOut(shell.stdout, 'No storage nodes have registered.\n');
  else await printRows(shell, format, status.nodes, nodeView(now));

  // Those that rest are of interest to few.
  const jobs = status.jobs.filter(({ state }) => format === 'wide' || state !== 'resting');
  if (jobs.length > 0) {
    await writeOut(shell.stdout, '\n');
    await printRows(shell, format, jobs, JOBS_VIEW);
  }
  if (status.certificates.length > 0) {
    await writeOut(shell.stdout, '\n');
    await printRows(shell, format, status.certificates, {
      columns: [
        { header: 'CERTIFICATE', cell: ({ kind }) => kind },
        { header: 'SUBJECT', cell: ({ subject }) => subject.replaceAll('\n', ', ') },
        { header: 'EXPIRES IN', cell: ({ notAfter }) => expiresIn(notAfter, now) },
        { header: 'ISSUER', cell: ({ issuer }) => issuer.replaceAll('\n', ', '), wide: true },
      ],
      name: ({ subject }) => subject,
    });
  }
  if (status.events.length > 0) {
    await writeOut(shell.stdout, '\n');
    const events = format === 'wide' ? status.events : status.events.slice(0, EVENTS_SHOWN);
    await printRows(shell, format, events, {
      columns: [
        { header: 'AGE', cell: ({ time }) => age(time, now) },
        { header: 'EVENT', cell: ({ kind }) => kind },
        { header: 'MESSAGE', cell: ({ message }) => message },
      ],
      name: ({ kind }) => kind,
    });
  }
}

/** One word that a person can act on, worst first. */
export function healthOf(status: MemberStatus, now: Timestamp): string {
  const { lost, underReplicated, unreadable } = status.replication;
  const away = status.nodes.filter(({ state }) => state === 'away' || state === 'unknown').map(({ name }) => name);
  const full = status.nodes.filter(({ state }) => state === 'full').map(({ name }) => name);
  const expired = status.certificates.filter(
    ({ notAfter }) => notAfter !== undefined && notAfter.seconds <= now.seconds,
  );
  if (lost > 0) return `DAMAGED: ${counted(lost, 'block')} lost what was written last`;
  if (unreadable > 0) return `DAMAGED: ${unreadable} chunks have no sound copy left`;
  if (status.nodes.length === 0) return 'NOT READY: no storage nodes';
  if (away.length === status.nodes.length) return 'NOT READY: no storage node is in touch';
  if (expired.length > 0) return `DEGRADED: expired: ${expired.map(({ subject }) => subject).join(', ')}`;
  if (away.length > 0) return `DEGRADED: not in touch: ${away.join(', ')}`;
  if (underReplicated > 0) return `DEGRADED: ${underReplicated} chunks have too few replicas`;
  if (full.length > 0) return `DEGRADED: full: ${full.join(', ')}`;
  return 'OK';
}

/** The oldest result says how old all are. */
function scrubLine(nodes: readonly NodeStatus[], now: Timestamp): string {
  const reported = nodes.flatMap(({ name, scrub }) => (scrub === undefined ? [] : [{ name, ...scrub }]));
  if (reported.length === 0) return 'no node has reported';
  const never = reported.filter(({ lastEnded }) => lastEnded === undefined).map(({ name }) => name);
  const ended = reported.flatMap(({ lastEnded }) => lastEnded ?? []);
  const oldest = ended.reduce<Timestamp | undefined>(
    (first, each) => (first === undefined || each.seconds < first.seconds ? each : first),
    undefined,
  );
  const parts = oldest === undefined ? [] : [`the oldest whole pass ended ${age(oldest, now)} ago`];
  if (never.length > 0) parts.push(`no whole pass yet on ${never.join(', ')}`);
  const sum = (of: (scrub: NodeScrub) => number): number => reported.reduce((total, each) => total + of(each), 0);
  parts.push(`${sum(({ lastDamaged }) => lastDamaged)} found damaged by the last passes`);
  const unmended = sum(({ damagedNow }) => damagedNow);
  if (unmended > 0) parts.push(`${unmended} DAMAGED NOW`);
  return parts.join(', ');
}

function expiresIn(notAfter: Timestamp | undefined, now: Timestamp): string {
  if (notAfter === undefined) return '-';
  const leftMs = (notAfter.seconds - now.seconds) * 1000;
  return leftMs <= 0 ? `EXPIRED ${formatDurationMs(-leftMs)} ago` : formatDurationMs(leftMs);
}

/** T6: how far a change of the authority has come. */
export function trustText({ trust }: Pick<MemberStatus, 'trust'>): string {
  const { roots, groups, bundleHash, signingRoot } = trust;
  const connected = groups.filter((group) => group.connected);
  const sum = (some: typeof groups): number => some.reduce((total, { count }) => total + count, 0);
  const all = sum(connected);
  const earlier = sum(connected.filter((group) => group.bundleHash !== bundleHash));
  const olderLeaves = sum(connected.filter(({ root }) => root !== signingRoot));
  const parts = [`${counted(roots.length, 'root')}, known to ${all - earlier} of ${counted(all, 'connected peer')}`];
  if (olderLeaves > 0) parts.push(`${counted(olderLeaves, 'certificate')} of another root than signs now`);
  return parts.join(', ');
}

function statusObject(status: MemberStatus): object {
  return {
    ...status,
    started: status.started && isoTime(status.started),
    time: status.time && isoTime(status.time),
    nodes: status.nodes.map(nodeObject),
    refusedNodes: status.refusedNodes.map(({ at, ...more }) => ({ ...more, at: at && isoTime(at) })),
    certificates: status.certificates.map(({ subject, issuer, notAfter, ...more }) => ({
      subject: subject.replaceAll('\n', ', '),
      issuer: issuer.replaceAll('\n', ', '),
      notAfter: notAfter && isoTime(notAfter),
      ...more,
    })),
    garbage: {
      ...status.garbage,
      walkedAt: status.garbage.walkedAt && isoTime(status.garbage.walkedAt),
      inventories: status.garbage.inventories.map((one) => ({ ...one, ended: one.ended && isoTime(one.ended) })),
    },
    trust: {
      ...status.trust,
      peers: status.trust.peers.map((one) => ({ ...one, notAfter: one.notAfter && isoTime(one.notAfter) })),
    },
    events: status.events.map((one) => ({ ...one, time: one.time && isoTime(one.time) })),
  };
}
