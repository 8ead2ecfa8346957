/**
 * Names in a remote directory for completion, within the time that a person does not notice; on a slow line
 * `COLLECTIVE_COMPLETION_WITHIN=2s` gives it more.
 */

import { parseDurationMs } from '@collective/base/duration';
import { chosenContext, connectTo } from '../member-session.ts';
import { joinRemote } from '../remote-path.ts';
import type { Shell } from '../shell.ts';
import { openWay } from '../way.ts';
import type { Candidates } from './complete.ts';

const REMOTE_WITHIN = '300ms';
const CANDIDATES_MAX = 200;

export async function completeRemotePath(
  shell: Shell,
  before: readonly string[],
  current: string,
): Promise<Candidates> {
  const slash = current.lastIndexOf('/');
  const folder = slash < 0 ? '/' : current.slice(0, slash) || '/';
  const beginning = current.slice(slash + 1);
  const withinMs = parseDurationMs(shell.env.COLLECTIVE_COMPLETION_WITHIN || REMOTE_WITHIN);
  const late = new AbortController();
  const timer = shell.clock.setTimer(withinMs, () => late.abort());
  const signal = AbortSignal.any([shell.signal, late.signal]);
  const candidates: { value: string }[] = [];
  let directory = false;
  try {
    const context = await chosenContext(shell, {
      context: valueAfter(before, '--context'),
      coordinator: valueAfter(before, '--coordinator'),
      output: 'table',
      outputGiven: false,
      verbose: false,
      quiet: true,
      color: false,
    });
    const way = await openWay(shell, context, signal);
    const member = await connectTo(context, signal, way.changes);
    try {
      for await (const entry of member.files.list(folder, { signal, attributes: false })) {
        if (!entry.name.startsWith(beginning) || /[\n\t]/.test(entry.name)) continue;
        const path = slash < 0 ? entry.name : joinRemote(folder, entry.name);
        directory = entry.type === 'directory';
        candidates.push({ value: directory ? `${path}/` : path });
        if (candidates.length >= CANDIDATES_MAX) break;
      }
    } finally {
      // The answer does not wait for the end of the session: the process ends anyway.
      void member
        .close()
        .then(() => way[Symbol.asyncDispose]())
        .catch(() => undefined);
    }
  } catch (thrown) {
    // What was read in time is offered; a coordinator that is away offers nothing.
    if (shell.signal.aborted) throw thrown;
  } finally {
    timer.cancel();
  }
  return { candidates, directive: candidates.length === 1 && directory ? 'nospace' : undefined };
}

function valueAfter(words: readonly string[], name: string): string | undefined {
  const at = words.indexOf(name);
  return at < 0 ? words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1) : words[at + 1];
}
