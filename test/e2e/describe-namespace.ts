/** What runs in a namespace and what happened there, short enough to stand below a failed test. */
import { kubectl } from '@collective/hack/kind/lab';

const EVENTS_MAX = 40;
const LOG_LINES_MAX = 25;
const PODS_MAX = 12;
const CHARACTERS_MAX = 14_000;

export async function describeNamespace(namespace: string): Promise<string> {
  const ask = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await kubectl(['--namespace', namespace, ...args], { mayFail: true });
    return String(stdout || stderr).trim();
  };
  const pieces = [
    `-- nodes\n${await ask('get', 'nodes', '-o', 'wide')}`,
    `-- pods of ${namespace}\n${await ask('get', 'pods,pvc', '-o', 'wide')}`,
    `-- events\n${lastLines(await ask('get', 'events', '--sort-by=.lastTimestamp'), EVENTS_MAX)}`,
  ];
  const pods = (await ask('get', 'pods', '-o', 'name')).split('\n').filter((name) => name.startsWith('pod/'));
  for (const pod of pods.slice(0, PODS_MAX)) {
    const log = ['logs', pod, '--all-containers', '--prefix', `--tail=${LOG_LINES_MAX}`];
    pieces.push(`-- log of ${pod}\n${await ask(...log)}`);
    const before = await ask(...log, '--previous');
    if (!/^error|not found/i.test(before)) pieces.push(`-- log of ${pod}, the run before\n${before}`);
  }
  const text = pieces.join('\n');
  return text.length <= CHARACTERS_MAX ? text : `${text.slice(0, CHARACTERS_MAX)}\n-- and more that does not fit here`;
}

function lastLines(text: string, most: number): string {
  return text.split('\n').slice(-most).join('\n');
}
