/** `collective events`: what happened that a person should know, as the coordinator kept it. */
import { type Clock, sleep } from '@collective/base/clock';
import type { Admin, MemberEvent } from '@collective/client';
import type { Command } from 'commander';
import { withAdmin } from '../member-session.ts';
import { printRows, type RowsView } from '../output/table.ts';
import { age, isoTime } from '../output/time.ts';
import type { Shell } from '../shell.ts';
import { flag, verb, wholeNumber } from '../verb.ts';

const SHOWN = 50;
const PAGE = 500;
const LOOK_EVERY_MS = 2_000;

type NumberedEvent = MemberEvent & { readonly number: number };

function viewOf(clock: Clock): RowsView<NumberedEvent> {
  return {
    columns: [
      { header: 'AGE', cell: ({ time }) => age(time, clock.now()) },
      { header: 'TIME', cell: ({ time }) => (time === undefined ? '-' : isoTime(time)), wide: true },
      { header: 'EVENT', cell: ({ kind }) => kind },
      { header: 'MESSAGE', cell: ({ message }) => message },
      {
        header: 'DETAILS',
        cell: ({ details }) =>
          Object.entries(details)
            .map(([name, value]) => `${name}=${value}`)
            .join(' '),
        wide: true,
      },
    ],
    name: ({ number }) => String(number),
    object: (event) => ({ ...event, time: event.time && isoTime(event.time) }),
  };
}

export function eventsCommand(shell: Shell): Command {
  return verb('events', {
    summary: 'show what happened: disks lost, chunks repaired, settings changed',
    description: 'Newest last, as in a log. The newest ten thousand are kept.',
    examples: [
      { line: 'collective events', says: 'the latest' },
      {
        line: 'collective events --kind disk-lost --limit 1000 -o wide',
        says: 'one kind of them, with times and details',
      },
      { line: 'collective events --follow', says: 'and what comes, until Ctrl-C' },
    ],
  })
    .option('-n, --limit <n>', 'so many of the newest', flag(wholeNumber('--limit', 1, 10_000)), SHOWN)
    .option('-k, --kind <kind>', 'only events of this kind')
    .option('-f, --follow', 'go on with new ones as they come')
    .action(async (options: { limit: number; kind?: string; follow?: boolean }, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const { limit, kind = '', follow } = options;
        const rows = follow
          ? followed(admin, { limit, kind, clock: shell.clock, signal })
          : latest(admin, { limit, kind, signal });
        await printRows(shell, globals.output, rows, viewOf(shell.clock));
      });
    });
}

interface Wanted {
  readonly limit: number;
  readonly kind: string;
  readonly signal: AbortSignal;
}

/** Oldest first. */
async function* latest(admin: Admin, { limit, kind, signal }: Wanted): AsyncGenerator<NumberedEvent> {
  const events: NumberedEvent[] = [];
  for (let before: number | undefined; events.length < limit; ) {
    const page = await admin.events({ before, kind, limit: Math.min(PAGE, limit - events.length) }, { signal });
    events.push(...page.events);
    if (page.end) break;
    before = page.events.at(-1)?.number;
  }
  yield* events.reverse();
}

async function* followed(
  admin: Admin,
  { clock, ...wanted }: Wanted & { readonly clock: Clock },
): AsyncGenerator<NumberedEvent> {
  let seen = 0;
  for (let limit = wanted.limit; ; limit = PAGE) {
    for await (const event of latest(admin, { ...wanted, limit })) {
      if (event.number <= seen) continue;
      seen = event.number;
      yield event;
    }
    await sleep(clock, LOOK_EVERY_MS, wanted.signal);
  }
}
