/**
 * The hidden `__complete` of `kubectl collective`: kubectl (1.26 and newer) asks the program `kubectl_complete-collective`
 * and takes the answer in its own form, candidates and last a number that says how to go on. Names of members, nodes and
 * namespaces come from the apiserver, which is asked for a moment only; completion never fails and never says a word.
 */
import { wallMs } from '@collective/base/clock';
import { parseDurationMs } from '@collective/base/duration';
import type { Command, Option } from 'commander';
import {
  type Candidates,
  choices,
  complete,
  type Knowledge,
  LOCAL_FILES,
  matching,
  NOTHING,
} from '../completion/complete.ts';
import { FORMATS } from '../output/format.ts';
import type { Program } from '../program.ts';
import { type Shell, writeOut } from '../shell.ts';
import { plainCommand } from '../verb.ts';
import { KubeApi } from './kube-api.ts';
import { type KubeObject, RESOURCES } from './kube-object.ts';
import { chooseCluster } from './kubeconfig.ts';
import { healthOf } from './member-health.ts';
import type { MemberObject } from './member-object.ts';

/** To load the library takes a third of it; `COLLECTIVE_COMPLETION_WITHIN=3s` gives it more on a slow line. */
const ASKED_WITHIN = '1500ms';
/** Of cobra: 2 = no blank after it, 4 = no names of local files. */
const DIRECTIVES = { none: 4, nospace: 6, files: 0 } as const;

export function kubectlCompleteCommand(shell: Shell, program: Program): Command {
  return plainCommand('__complete')
    .argument('[words...]', 'the words of the line, the one under the cursor last')
    .allowUnknownOption()
    .action(async (words: string[]) => {
      const found = await complete(shell, words, { program, argumentsOf, valuesOf }).catch(() => NOTHING);
      const { candidates, directive = 'none' } = found;
      const lines = candidates.map(({ value, description }) => (description ? `${value}\t${description}` : value));
      await writeOut(shell.stdout, [...lines, `:${DIRECTIVES[directive]}`, ''].join('\n'));
    });
}

const argumentsOf: Knowledge['argumentsOf'] = async (shell, { entry, command, before, current }) => {
  const given = argumentsGiven(command, before);
  if (entry === 'tree') return given.length > 0 ? NOTHING : await named(shell, before, current, RESOURCES.collectives);
  if (entry === 'drain' && given.length > 0) return await nodes(shell, before, given, current);
  if (entry === 'members' || given.length > 0) return NOTHING;
  return await named(shell, before, current, RESOURCES.members, (member) => healthOf(member as MemberObject).word);
};

const valuesOf: Knowledge['valuesOf'] = async (shell, option: Option, before, current) => {
  switch (option.attributeName()) {
    case 'output':
      return matching(current, choices(FORMATS));
    case 'namespace':
      return await named(shell, before, current, { apiVersion: 'v1', kind: 'Namespace', plural: 'namespaces' });
    case 'context': {
      const { config } = await chooseCluster({ kubeconfig: valueAfter(before, '--kubeconfig') }, shell.env, shell.cwd);
      return matching(current, choices(config.getContexts().map(({ name }) => name)));
    }
    case 'user':
      return await users(shell, before, current);
    case 'via':
      return matching(current, choices(['external', 'port-forward']));
    case 'kubeconfig':
    case 'invitation':
    case 'file':
      return LOCAL_FILES;
    default:
      return NOTHING;
  }
};

async function named(
  shell: Shell,
  before: readonly string[],
  current: string,
  resource: { readonly apiVersion: string; readonly kind: string; readonly plural: string },
  says: (object: KubeObject) => string | undefined = () => undefined,
): Promise<Candidates> {
  const objects = await asked(shell, before, (api, signal) =>
    api.list(resource, { namespace: resource.kind === 'Namespace' ? undefined : api.cluster.namespace, signal }),
  );
  return matching(
    current,
    objects.map((one) => ({ value: one.metadata.name, description: says(one) })),
  );
}

async function nodes(
  shell: Shell,
  before: readonly string[],
  [member = '', ...taken]: readonly string[],
  current: string,
): Promise<Candidates> {
  const { status } = (await asked(shell, before, (api, signal) =>
    api.get(RESOURCES.members, api.cluster.namespace, member, signal),
  )) as MemberObject;
  const free = (status?.nodes ?? []).filter(({ name }) => !taken.includes(name));
  return matching(
    current,
    free.map(({ name, state }) => ({ value: name, description: state })),
  );
}

async function users(shell: Shell, before: readonly string[], current: string): Promise<Candidates> {
  const objects = await asked(shell, before, (api, signal) =>
    api.list(RESOURCES.members, { namespace: api.cluster.namespace, signal }),
  );
  const members = (objects as MemberObject[]).filter(({ metadata }) => before.includes(metadata.name));
  return matching(
    current,
    members.flatMap(({ spec }) => (spec?.users ?? []).map(({ name }) => ({ value: name }))),
  );
}

async function asked<T>(
  shell: Shell,
  before: readonly string[],
  ask: (api: KubeApi, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const startedMs = wallMs(shell.clock);
  const wish = {
    kubeconfig: valueAfter(before, '--kubeconfig'),
    context: valueAfter(before, '--context'),
    namespace: valueAfter(before, '--namespace', '-n'),
  };
  const cluster = await chooseCluster(wish, shell.env, shell.cwd);
  const withinMs = parseDurationMs(shell.env.COLLECTIVE_COMPLETION_WITHIN || ASKED_WITHIN);
  const requestTimeoutMs = Math.max(1, withinMs - (wallMs(shell.clock) - startedMs));
  using api = new KubeApi({ cluster, clock: shell.clock, requestTimeoutMs });
  return await ask(api, shell.signal);
}

/** Words that are neither commands nor flags nor their values. */
function argumentsGiven(command: Command, before: readonly string[]): string[] {
  const commands = new Set<string>();
  for (let at: Command | null = command; at !== null; at = at.parent) commands.add(at.name());
  const given: string[] = [];
  for (let i = 0; i < before.length; i++) {
    const word = before[i] ?? '';
    const option = command.options.find(({ long, short }) => word === long || word === short);
    if (option?.required) i++;
    else if (word.startsWith('-')) continue;
    else if (commands.has(word) && given.length === 0) commands.delete(word);
    else given.push(word);
  }
  return given;
}

function valueAfter(words: readonly string[], ...names: readonly string[]): string | undefined {
  for (const [i, word] of words.entries()) {
    if (names.includes(word)) return words[i + 1];
    const name = names.find((one) => word.startsWith(`${one}=`));
    if (name !== undefined) return word.slice(name.length + 1);
  }
  return undefined;
}
