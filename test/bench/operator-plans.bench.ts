/**
 * What planning costs the operator, without a cluster and in this process: 50 members of 10 nodes, planned from nothing, looked
 * at when all is in order, and looked at for the first time after a restart, when nothing has been read out of certificates yet.
 *
 *   npm run bench -- operator-plans          MEMBERS=5 NODES=3: another size
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Figures, secondsOf } from './figures.ts';
import { ModelledMember } from './operator/modelled-member.ts';
import { sizeOfRun } from './operator/run-size.ts';

const ROUNDS = 5;

export async function operatorPlansBench(figures: Figures): Promise<void> {
  const { members: count, nodes } = sizeOfRun();
  const size = `${count} members of ${nodes} nodes`;
  // What is compiled at the first use is no part of a steady operator.
  await new ModelledMember('warm', nodes).settle();

  const emptyBytes = heapBytes();
  const members = Array.from({ length: count }, (_unused, at) => new ModelledMember(`m${at}`, nodes));
  const planned = await costOf(members, (member) => void member.plan());
  figures.add({
    name: `plan from nothing, ${size}, a member`,
    value: planned.cpuMs,
    unit: 'ms',
    note: 'processor time',
  });
  for (const member of members) await member.settle();
  const heldBytes = heapBytes() - emptyBytes;
  const objects = members.reduce((sum, member) => sum + member.objects, 0);
  figures.add({ name: 'objects that the operator watches, a member', value: objects / count, unit: '' });
  figures.add({
    name: 'memory of them and of what was read from them, a member',
    value: heldBytes / count / 1e6,
    unit: 'MB',
  });

  const looks: readonly (readonly [string, (member: ModelledMember) => unknown])[] = [
    ['plan with all in order, a member', (member) => void member.plan()],
    ['look with all in order, a member', (member) => member.look()],
    ['look with all in order, nothing read yet, a member', (member) => member.look()],
  ];
  for (const [name, act] of looks) {
    if (name.includes('nothing read')) for (const member of members) member.forgetWhatWasRead();
    const rounds = name.includes('nothing read') ? 1 : ROUNDS;
    const cost = await costOf(Array.from({ length: rounds }, () => members).flat(), act);
    figures.add({ name, value: cost.cpuMs, unit: 'ms', note: 'processor time' });
    figures.add({ name: `${name}, p50`, value: percentile(cost.tookMs, 0.5), unit: 'ms' });
    figures.add({ name: `${name}, p99`, value: percentile(cost.tookMs, 0.99), unit: 'ms' });
  }
}

interface Cost {
  /** Mean: unlike the clock it does not know who else is at work. */
  readonly cpuMs: number;
  /** Sorted. */
  readonly tookMs: readonly number[];
}

async function costOf(members: readonly ModelledMember[], act: (member: ModelledMember) => unknown): Promise<Cost> {
  const tookMs: number[] = [];
  const before = process.cpuUsage();
  for (const member of members) tookMs.push((await secondsOf(async () => await act(member))) * 1e3);
  const { user, system } = process.cpuUsage(before);
  return { cpuMs: (user + system) / 1e3 / members.length, tookMs: tookMs.sort((a, b) => a - b) };
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}
