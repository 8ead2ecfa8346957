/**
 * Loaded into a process before its program (`node --import`): what a pod has and this process has not. Names of Services lead to
 * addresses of the loopback, and the account's files lie where kubelet mounts them; so a program runs as it does in a
 * cluster. IN_A_POD is JSON: `{ names, accountFolder }`. What is not in it is looked up as ever.
 */
import { promises as dns } from 'node:dns';
import { promises as files } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

const { names, accountFolder } = JSON.parse(process.env.IN_A_POD ?? '{}') as {
  readonly names: Readonly<Record<string, string>>;
  readonly accountFolder: string;
};

const { lookup } = dns;
dns.lookup = (async (name: string, options: object) => {
  const address = names[name];
  return address === undefined ? await lookup(name, options) : [{ address, family: 4 }];
}) as typeof lookup;

const place = <Path>(path: Path): Path =>
  (typeof path === 'string' ? path.replace(ACCOUNT_FOLDER, accountFolder) : path) as Path;
const { readFile, access } = files;
files.readFile = ((path: string, ...rest: []) => readFile(place(path), ...rest)) as typeof readFile;
files.access = ((path: string, ...rest: []) => access(place(path), ...rest)) as typeof access;
syncBuiltinESMExports();
