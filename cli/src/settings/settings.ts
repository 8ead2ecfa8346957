/**
 * Settings of a server from three places, strongest first: flags, a YAML file (`--config`), environment variables. One
 * table per server drives all three and their documentation; a value carries where it came from into its error message.
 */

import { CollectiveError } from '@collective/base/errors';
import { formatHostPort } from '@collective/base/host-port';
import { type Command, Option } from 'commander';
import { ownCoordinatorFlag } from '../verb.ts';
import type { YamlValue } from './yaml-settings.ts';

export interface Setting<T> {
  /** Placeholder of the value in help: `<host:port>`; none: a switch. */
  readonly value?: string;
  readonly summary: string;
  readonly parse: (text: string, what: string) => T;
  readonly default?: T;
  /** Other flags that mean the same, not shown in help. */
  readonly aliases?: readonly string[];
  /** The value is cut out of messages. */
  readonly secret?: boolean;
}

export type SettingTable = Readonly<Record<string, Setting<unknown>>>;
export type SettingValues<Table extends SettingTable> = {
  readonly [Key in keyof Table]: Table[Key] extends Setting<infer T> ? T : never;
};

interface Given {
  readonly text: string;
  /** `flag --listen`, `node.yaml, line 3, key 'listen'`, `environment variable COLLECTIVE_LISTEN`. */
  readonly source: string;
}

const ENVIRONMENT_PREFIX = 'COLLECTIVE_';

/** `healthListen` -> `--health-listen`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** `healthListen` -> `COLLECTIVE_HEALTH_LISTEN`. */
export function environmentOf(key: string): string {
  return ENVIRONMENT_PREFIX + key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

export function addSettingFlags(command: Command, table: SettingTable): Command {
  for (const [key, setting] of Object.entries(table)) {
    const value = setting.value === undefined ? '' : ` ${setting.value}`;
    const help = `${setting.summary}${defaultText(setting.default)}  [${environmentOf(key)}]`;
    // A flag that every command has is this setting here.
    if (flagOf(key) === '--coordinator') ownCoordinatorFlag(command, help);
    else command.addOption(new Option(`${flagOf(key)}${value}`, help));
    for (const alias of setting.aliases ?? []) command.addOption(new Option(`${alias}${value}`).hideHelp());
  }
  return command;
}

function defaultText(value: unknown): string {
  if (value === undefined) return '';
  const isAddress = typeof value === 'object' && value !== null && 'host' in value && 'port' in value;
  return ` (default: ${isAddress ? formatHostPort(value as HostPort) : String(value)})`;
}

/** What commander read, by key; an alias counts as its setting. */
export function givenFlags(command: Command, table: SettingTable): Map<string, Given> {
  const given = new Map<string, Given>();
  for (const [key, setting] of Object.entries(table)) {
    for (const flag of [...(setting.aliases ?? []), flagOf(key)]) {
      const option = command.options.find(({ long }) => long === flag);
      if (option === undefined || command.getOptionValueSource(option.attributeName()) !== 'cli') continue;
      given.set(key, { text: String(command.getOptionValue(option.attributeName())), source: `flag ${flag}` });
    }
  }
  return given;
}

export interface SettingSources {
  readonly flags: ReadonlyMap<string, Given>;
  readonly file?: { readonly name: string; readonly values: ReadonlyMap<string, YamlValue> };
  readonly env: Readonly<Record<string, string | undefined>>;
}

export function resolveSettings<Table extends SettingTable>(
  table: Table,
  sources: SettingSources,
): SettingValues<Table> {
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(table)) {
    const given = strongest(key, sources);
    values[key] = given === undefined ? setting.default : parseGiven(key, setting, given);
  }
  return values as SettingValues<Table>;
}

function strongest(key: string, { flags, file, env }: SettingSources): Given | undefined {
  const flag = flags.get(key);
  if (flag !== undefined) return flag;
  const inFile = file?.values.get(key);
  if (file !== undefined && inFile !== undefined) {
    return { text: inFile.text, source: `${file.name}, line ${inFile.line}, key '${key}'` };
  }
  const variable = env[environmentOf(key)];
  if (variable === undefined || variable === '') return undefined;
  return { text: variable, source: `environment variable ${environmentOf(key)}` };
}

function parseGiven(key: string, setting: Setting<unknown>, { text, source }: Given): unknown {
  try {
    return setting.parse(text, key);
  } catch (thrown) {
    if (setting.secret) throw new CollectiveError('config_invalid', `Read ${source}: it is malformed`);
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    throw new CollectiveError('config_invalid', `Read ${source}: ${why}`);
  }
}

// ---- kinds of values ----

export function text(value: string): string {
  return value;
}

/** `a,b,c`; nobody is named twice. */
export function names(value: string, what: string): string[] {
  const list = value.split(',').map((one) => one.trim());
  const [twice] = list.filter((name, index) => list.indexOf(name) !== index);
  if (list.includes('')) throw new CollectiveError('invalid_argument', `Read '${value}' as ${what}: a name is empty`);
  if (twice !== undefined)
    throw new CollectiveError('invalid_argument', `Read '${value}' as ${what}: ${twice} is named twice`);
  return list;
}

/** A switch: present as a flag, `true` or `false` elsewhere. */
export function truth(value: string, what: string): boolean {
  if (['true', 'yes', 'on', '1'].includes(value.toLowerCase())) return true;
  if (['false', 'no', 'off', '0'].includes(value.toLowerCase())) return false;
  throw new CollectiveError('invalid_argument', `Read '${value}' as ${what}: it is true or false`);
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, `[::1]:port`, or `:port` for all addresses of the machine. */
export function hostPort(value: string, what: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):([0-9]{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new CollectiveError(
      'invalid_argument',
      `Read '${value}' as ${what}: it is host:port, [address]:port or :port`,
    );
  }
  return { host: match[1] ?? match[2] ?? '', port };
}
