/** `collective maintenance`: how the member looks after itself, shown and changed while it runs. */
import { formatByteSize, parseByteSize } from '@collective/base/byte-size';
import { formatDurationMs, parseDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import type { MaintenanceSettings } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { printOne, type RowsView } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { noun, verb } from '../verb.ts';

interface Setting {
  readonly name: string;
  readonly says: string;
  show(settings: MaintenanceSettings): string;
  read(text: string): Partial<MaintenanceSettings>;
}

const SECOND_MS = 1_000;
const duration = (seconds: number): string => (seconds === 0 ? 'off' : formatDurationMs(seconds * SECOND_MS));
const seconds = (text: string): number => (isOff(text) ? 0 : Math.round(parseDurationMs(text) / SECOND_MS));
const isOff = (text: string): boolean => text === 'off' || text === '0';

const SETTINGS: readonly Setting[] = [
  {
    name: 'repair-after',
    says: 'a node that is away for so long is given up, and its replicas are made anew elsewhere',
    show: ({ repairAfterSeconds }) => duration(repairAfterSeconds),
    read: (text) => ({ repairAfterSeconds: seconds(text) }),
  },
  {
    name: 'repair-rate',
    says: 'bytes a second that repair, drain and folds copy together, and that comparisons read again',
    show: ({ repairBytesPerSecond }) => `${formatByteSize(repairBytesPerSecond)}/s`,
    read: (text) => ({ repairBytesPerSecond: parseByteSize(text.replace(/\/s$/, ''), 'repair-rate') }),
  },
  {
    name: 'scrub-period',
    says: 'every chunk is read and verified once within it; off: never',
    show: ({ scrubPeriodSeconds }) => duration(scrubPeriodSeconds),
    read: (text) => ({ scrubPeriodSeconds: seconds(text) }),
  },
  {
    name: 'garbage-grace',
    says: 'what nothing names any more is kept for so long; older backups may miss chunks',
    show: ({ garbageGraceSeconds }) => (garbageGraceSeconds === 0 ? '0s' : duration(garbageGraceSeconds)),
    read: (text) => ({ garbageGraceSeconds: text === '0' ? 0 : Math.round(parseDurationMs(text) / SECOND_MS) }),
  },
  {
    name: 'garbage-waits',
    says: 'true after a restore: nothing is removed from nodes until you set it to false',
    show: ({ garbageWaits }) => String(garbageWaits),
    read: (text) => ({ garbageWaits: booleanOf(text) }),
  },
  {
    name: 'rebalance',
    says: 'nodes are evened out when one differs from the average use by more than this; off: when asked',
    show: ({ rebalancePercent }) => (rebalancePercent === 0 ? 'off' : `${rebalancePercent}%`),
    read: (text) => ({ rebalancePercent: percentOf(text) }),
  },
  {
    name: 'rebalance-hours',
    says: "only within these hours of UTC, as '01-05'; any: at any time",
    show: ({ rebalanceHours }) => rebalanceHours || 'any',
    read: (text) => ({ rebalanceHours: text === 'any' ? '' : text }),
  },
];

const VIEW: RowsView<MaintenanceSettings> = {
  columns: SETTINGS.map(({ name, says, show }) => ({
    header: name,
    cell: (row) => `${show(row).padEnd(12)} # ${says}`,
  })),
  name: () => 'maintenance',
  object: (settings) => ({ ...settings }),
};

const SETTLED_VIEW: RowsView<{ readonly settled: number; readonly left: number }> = {
  columns: [
    { header: 'SETTLED', cell: ({ settled }) => String(settled), align: 'right' },
    { header: 'LEFT', cell: ({ left }) => String(left), align: 'right' },
  ],
  name: ({ settled }) => String(settled),
};

export function maintenanceCommand(shell: Shell): Command {
  const show = verb('show', {
    summary: 'show how the member looks after itself',
    examples: [{ line: 'collective maintenance show', says: 'all settings and what they mean' }],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      await printOne(shell, globals.output, await admin.maintenance({ signal }), VIEW);
    });
  });
  const set = verb('set', {
    summary: 'change settings; the member goes on running',
    description: `Settings:\n${SETTINGS.map(({ name, says }) => `  ${name.padEnd(16)} ${says}`).join('\n')}`,
    examples: [
      { line: 'collective maintenance set repair-after=1h repair-rate=20MB', says: 'more patience, less traffic' },
      { line: 'collective maintenance set garbage-waits=false', says: 'after a restore, when you have looked' },
    ],
  })
    .argument('<setting=value...>', 'what to change')
    .action(async (given: string[], _options: unknown, command: Command) => {
      const change = Object.assign({}, ...given.map(readSetting)) as Partial<MaintenanceSettings>;
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        await printOne(shell, globals.output, await admin.setMaintenance(change, { signal }), VIEW);
      });
    });
  const settle = verb('settle-losses', {
    summary: 'say that you have seen to the blocks that were lost',
    description:
      'A block that nodes lost with the power before it was stable shows its earlier content, and the member is DAMAGED until somebody has\nlooked: the events name the files. What is lost while you look is not settled by it.',
    examples: [
      { line: 'collective events --kind block-reverted', says: 'which files' },
      { line: 'collective maintenance settle-losses', says: 'when they are written again, or nobody misses it' },
    ],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      const { lost } = (await admin.status({ signal })).replication;
      const settled = lost === 0 ? { settled: 0, left: 0 } : await admin.settleLosses({ blocks: lost }, { signal });
      await printOne(shell, globals.output, settled, SETTLED_VIEW);
    });
  });
  return noun(
    'maintenance',
    'show and change how the member looks after itself',
    [show, set, settle],
    [
      { line: 'collective maintenance show', says: 'all settings and what they mean' },
      { line: 'collective maintenance set repair-after=1h', says: 'change one' },
    ],
  );
}

function readSetting(text: string): Partial<MaintenanceSettings> {
  const at = text.indexOf('=');
  const setting = SETTINGS.find(({ name }) => name === text.slice(0, at));
  if (at < 0 || setting === undefined)
    throw new CollectiveError(
      'invalid_argument',
      `Read '${text}': it is SETTING=VALUE, and the settings are ${SETTINGS.map(({ name }) => name).join(', ')}`,
    );
  return setting.read(text.slice(at + 1));
}

function percentOf(text: string): number {
  if (isOff(text)) return 0;
  const [, digits] = /^(\d{1,3})%?$/.exec(text) ?? [];
  if (digits !== undefined) return Number(digits);
  throw new CollectiveError(
    'invalid_argument',
    `Read '${text}' as rebalance: it is percent of capacity, as 10%, or off`,
  );
}

function booleanOf(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  throw new CollectiveError('invalid_argument', `Read '${text}' as garbage-waits: it is true or false`);
}
