/**
 * What `coordinator` and `node` share: flags from their table, `--config`, logs on stderr, signals, and the end when the
 * supervisor's pipe on standard input ends.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import { type Running, SERVER_EXIT, serve } from '@collective/base/lifecycle';
import { createLog, LOG_LEVELS, type Log, type LogLevel } from '@collective/base/log';
import { type Command, Option } from 'commander';
import { ExitWith } from '../exit-with.ts';
import type { Shell } from '../shell.ts';
import { duration, type VerbOptions, verb } from '../verb.ts';
import { addSettingFlags, givenFlags, resolveSettings, type SettingTable, type SettingValues } from './settings.ts';
import { parseYamlSettings } from './yaml-settings.ts';

const CONFIG_VARIABLE = 'COLLECTIVE_SERVER_CONFIG';
const STOP_WITHIN_MS = 5_000;

export function serverCommand(name: string, options: VerbOptions, table: SettingTable): Command {
  return addSettingFlags(verb(name, options), table)
    .option('--config <file>', `YAML file with settings  [${CONFIG_VARIABLE}]`)
    .addOption(new Option('--stop-with-stdin', 'stop when standard input ends').hideHelp())
    .addOption(duration('--stop-within <duration>', 'end by force after so long', STOP_WITHIN_MS).hideHelp());
}

export async function settingsOf<Table extends SettingTable>(
  shell: Shell,
  command: Command,
  table: Table,
): Promise<SettingValues<Table>> {
  const config = command.getOptionValue('config') ?? shell.env[CONFIG_VARIABLE];
  const file = typeof config === 'string' ? await readSettingsFile(shell, config, table) : undefined;
  return resolveSettings(table, { flags: givenFlags(command, table), file, env: shell.env });
}

/** Runs until a signal; ends the command with the server's exit code. */
export async function runServer(
  shell: Shell,
  command: Command,
  level: LogLevel,
  program: string,
  start: (log: Log, stopping: AbortSignal) => Promise<Running>,
): Promise<void> {
  const log = createLog({ program, level });
  const stopOn = command.getOptionValue('stopWithStdin') === true ? endOf(shell) : undefined;
  shell.releaseSignals();
  let asked: AbortSignal | undefined;
  const exit = await serve({
    log,
    clock: shell.clock,
    stopWithinMs: Number(command.getOptionValue('stopWithin')),
    stopOn,
    start: (stopping) => {
      asked = stopping;
      return start(log, stopping);
    },
  }).catch((thrown: unknown) => {
    // A start that was called off is a stop in order.
    if (asked?.aborted && thrown === asked.reason) return SERVER_EXIT.stopped;
    throw thrown;
  });
  if (exit !== 0) throw new ExitWith(exit);
}

export function logLevel(value: string, what: string): LogLevel {
  const level = LOG_LEVELS.find((one) => one === value);
  if (level === undefined) {
    throw new CollectiveError('invalid_argument', `Read '${value}' as ${what}: it is one of ${LOG_LEVELS.join(', ')}`);
  }
  return level;
}

async function readSettingsFile(
  shell: Shell,
  name: string,
  table: SettingTable,
): Promise<{ name: string; values: ReturnType<typeof parseYamlSettings> }> {
  const content = await readFile(resolve(shell.cwd, name), 'utf8').catch((cause: unknown) => {
    throw new CollectiveError('config_invalid', `Read the configuration file ${name}`, { cause });
  });
  return { name, values: parseYamlSettings(content, name, Object.keys(table)) };
}

/** Aborted when standard input ends: the pipe of a supervisor does so when it dies, however it dies. */
function endOf(shell: Shell): AbortSignal {
  const ended = new AbortController();
  const end = (): void => ended.abort('the end of its supervisor');
  shell.stdin.once('end', end);
  shell.stdin.once('close', end);
  shell.stdin.once('error', end);
  shell.stdin.resume();
  return ended.signal;
}
