/**
 * Where contexts lie: `COLLECTIVE_CONFIG` if set, else an existing `~/.collective` (a folder, or the file itself), else
 * `$XDG_CONFIG_HOME/collective/config.yaml`. Certificates lie in a folder per context beside the file.
 */
import { statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

export interface ContextLocation {
  readonly file: string;
  /** Holds one folder of certificates per context. */
  readonly credentialsFolder: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

export function contextLocation(env: Environment = process.env): ContextLocation {
  if (env.COLLECTIVE_CONFIG) return beside(env.COLLECTIVE_CONFIG);
  const home = env.HOME || homedir();
  const xdg = join(env.XDG_CONFIG_HOME || join(home, '.config'), 'collective');
  const old = join(home, '.collective');
  const found = statSync(old, { throwIfNoEntry: false });
  if (found?.isDirectory()) return beside(join(old, 'config.yaml'));
  if (found?.isFile()) return { file: old, credentialsFolder: join(xdg, 'credentials') };
  return beside(join(xdg, 'config.yaml'));
}

function beside(file: string): ContextLocation {
  return { file, credentialsFolder: join(dirname(file), 'credentials') };
}
