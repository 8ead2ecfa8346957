// The base of the image where no container registry can be reached: the few Debian packages that Node needs below it, fetched
// and verified by apt from the sources of this machine and unpacked without running anything of them. No shell, no package
// manager, nothing that is setuid. It holds what the published base holds, so that the same image stands on both.

import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { imageExists } from '../kind/images.ts';
import { labFolder, run } from '../kind/lab.ts';
import type { SystemPackage } from './sbom.ts';

/** Goes up when the same packages give other files. */
const RECIPE = 2;
const PACKAGES = ['base-files', 'ca-certificates', 'libc6', 'libgcc-s1', 'libstdc++6', 'netbase', 'tzdata'];
const LISTS_FRESH_MS = 86_400_000;
/** /bin, /lib and the like lead into /usr, as Debian's own installer makes them. */
const MERGED = ['bin', 'sbin', 'lib', 'lib64'];
const SUPERFLUOUS = [
  'etc/{apt,ca-certificates,default,dpkg,skel,update-motd.d,profile.d}',
  'etc/issue*',
  'usr/sbin/*',
  'usr/bin/*',
  'usr/lib/*/gconv',
  'usr/share/{ca-certificates,common-licenses,man,lintian,bug,base-files,dict,info,misc}',
  'usr/share/doc/*/{changelog,NEWS,README}*',
  'usr/share/zoneinfo/{right,posix}',
  'var/{backups,cache,local,lib,log,mail,opt,spool}',
  'usr/{games,include,src,local}',
  '{boot,media,mnt,opt,srv}',
];
const PASSWD = `root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
`;
const GROUP = 'root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n';

export interface DebianBase {
  readonly tag: string;
  /** For example debian-12. */
  readonly distribution: string;
  readonly packages: readonly SystemPackage[];
}

export async function ensureDebianBase(say: (line: string) => void): Promise<DebianBase> {
  const apt = await openApt(say);
  const packages = parseControl(await apt('apt-cache', ['show', '--no-all-versions', ...PACKAGES])).map(
    ({ Package: name = '', Version: version = '', Architecture: architecture = '' }) => ({
      name,
      version,
      architecture,
    }),
  );
  const missing = PACKAGES.filter((name) => !packages.some((found) => found.name === name));
  if (missing.length > 0) throw new Error(`apt knows no package ${missing.join(', ')}`);
  packages.sort((one, other) => (one.name < other.name ? -1 : 1));
  const key = createHash('sha256')
    .update(JSON.stringify([RECIPE, packages]))
    .digest('hex')
    .slice(0, 12);
  const base = { tag: `lab.test/debian-base:${key}`, distribution: distribution(), packages };
  if (await imageExists(base.tag)) return base;
  const folder = mkdtempSync(join(labFolder(), 'base-'));
  try {
    await layOut(folder, packages, apt);
    const pack = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '-C', join(folder, 'root')];
    await execa('tar', [...pack, '-c', '.'], { buffer: false }).pipe('docker', ['import', '-', base.tag]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  say(`base ${base.tag} made of ${packages.length} Debian packages`);
  return base;
}

type Apt = (program: 'apt-get' | 'apt-cache', args: readonly string[], cwd?: string) => Promise<string>;

/** With lists of its own: the machine's may be missing or old, and writing them is for root only. */
async function openApt(say: (line: string) => void): Promise<Apt> {
  const known = await run('sh', ['-c', 'command -v apt-get dpkg-deb'], { mayFail: true });
  if (known.failed) {
    throw new Error(
      'No container registry can be reached, and there is no apt here to make a base of Debian packages: name one of your own (--base IMAGE)',
    );
  }
  const state = join(labFolder(), 'apt');
  for (const folder of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(state, folder), { recursive: true });
  const options = [`Dir::State::lists=${state}/lists`, `Dir::Cache=${state}/cache`, 'APT::Sandbox::User=root'];
  const settings = options.flatMap((option) => ['-o', option]);
  const apt: Apt = async (program, args, cwd) => {
    const { stdout } = await execa(program, [...settings, ...args], { stdin: 'ignore', ...(cwd ? { cwd } : {}) });
    return stdout;
  };
  const updated = join(state, 'updated');
  if (!existsSync(updated) || Date.now() - statSync(updated).mtimeMs > LISTS_FRESH_MS) {
    say('asking apt which packages there are');
    await apt('apt-get', ['--quiet', 'update']);
    writeFileSync(updated, '');
  }
  return apt;
}

async function layOut(folder: string, packages: readonly SystemPackage[], apt: Apt): Promise<void> {
  const archives = join(folder, 'archives');
  const root = join(folder, 'root');
  mkdirSync(archives);
  await apt('apt-get', ['download', ...packages.map(({ name, version }) => `${name}=${version}`)], archives);
  for (const name of MERGED) {
    mkdirSync(join(root, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
  for (const archive of readdirSync(archives).sort()) {
    const unpack = ['-C', root, '-x', '--keep-directory-symlink', '--no-same-owner'];
    await execa('dpkg-deb', ['--fsys-tarfile', join(archives, archive)], { buffer: false }).pipe('tar', unpack);
  }
  const authorities = globSync('usr/share/ca-certificates/**/*.crt', { cwd: root }).sort();
  const bundle = authorities.map((path) => readFileSync(join(root, path), 'utf8').trim()).join('\n');
  for (const pattern of SUPERFLUOUS) {
    for (const path of globSync(pattern, { cwd: root })) rmSync(join(root, path), { recursive: true });
  }
  const files = {
    'etc/ssl/certs/ca-certificates.crt': `${bundle}\n`,
    'etc/passwd': PASSWD,
    'etc/group': GROUP,
    'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
  };
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text, { mode: 0o644 });
  }
  await keepControlFiles(archives, join(root, 'var/lib/dpkg/status.d'));
  mkdirSync(join(root, 'tmp'), { recursive: true });
  chmodSync(join(root, 'tmp'), 0o1777);
}

/** Where scanners of images look for what is installed when there is no dpkg. */
async function keepControlFiles(archives: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const archive of readdirSync(archives)) {
    const { stdout } = await execa('dpkg-deb', ['--field', join(archives, archive)]);
    const [name = ''] = archive.split('_', 1);
    writeFileSync(join(folder, name), `${stdout}\n`, { mode: 0o644 });
  }
}

/** The stanzas of a Debian control file: fields by name, without the continuations of long ones. */
export function parseControl(text: string): Record<string, string>[] {
  return text
    .split(/\n{2,}/)
    .filter((stanza) => stanza.trim() !== '')
    .map((stanza) =>
      Object.fromEntries([...stanza.matchAll(/^([A-Za-z0-9-]+): ?(.*)$/gm)].map(([, k = '', v = '']) => [k, v])),
    );
}

function distribution(): string {
  const release = readFileSync('/etc/os-release', 'utf8');
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1] ?? 'unknown';
  return `${field('ID')}-${field('VERSION_ID')}`;
}
