import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { COMMANDS } from './command-table.ts';
import { run } from './run.ts';
import { type TestShell, type TestShellOptions, testShell } from './shell-for-tests.ts';

async function ran(argv: string[], options: TestShellOptions = {}): Promise<TestShell & { exit: number }> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-run-'));
  try {
    const shell = testShell({ ...options, env: { COLLECTIVE_CONFIG: join(folder, 'config.yaml'), ...options.env } });
    return Object.assign(shell, { exit: await run(argv, shell) });
  } finally {
    await rm(folder, { recursive: true });
  }
}

test('--help lists every command under its group, and the exit codes, on stdout', async () => {
  const { exit, out, err } = await ran(['--help']);
  assert.equal(exit, 0);
  for (const { name, summary, hidden } of COMMANDS) {
    const flat = out().replace(/\s+/g, ' ');
    if (!hidden) assert.ok(flat.includes(summary) && flat.includes(name), `${name} is listed`);
  }
  assert.match(out(), /Run a member:/);
  assert.match(out(), /Exit codes:\n {2}0 +success/);
  assert.ok(!out().includes('__complete'));
  assert.equal(err(), '');
});

for (const { name, hidden } of COMMANDS) {
  if (hidden) continue;
  test(`collective ${name} --help has a summary, examples or verbs, and flags`, async () => {
    const shell = await ran([name, '--help']);
    assert.equal(shell.exit, 0);
    assert.match(shell.out(), /Usage: collective/);
    const commands = shell
      .out()
      .replace(/^.*Commands:/s, '')
      .replace(/Examples:.*$/s, '');
    const verbs = [...commands.matchAll(/^ {2}([a-z-]+) .*$/gm)].map(([, verb]) => verb);
    assert.match(shell.out(), /Examples:\n {2}\S/);
    if (shell.out().includes('Commands:')) {
      for (const verb of verbs.filter((one) => one !== undefined && one !== 'help' && !one.startsWith('-'))) {
        const below = await ran([name, verb as string, '--help']);
        assert.equal(below.exit, 0, `${name} ${verb}`);
        assert.match(below.out(), /Examples:\n {2}\S/, `${name} ${verb} has examples`);
      }
    }
  });
}

test('help fills its paragraphs, shows own flags first and defaults as people write them', async () => {
  const mkdir = (await ran(['mkdir', '--help'])).out();
  assert.match(mkdir, /--mode <octal> .*\(default: 755\)/);
  assert.ok(mkdir.indexOf('--parents') < mkdir.indexOf('Flags of every command:'));
  assert.match((await ran(['status', '--help'])).out(), /--every <duration> .*\(default: 2s\)/);
  const up = (await ran(['up', '--help'], { columns: 72 })).out();
  const paragraph = up.slice(up.indexOf('One coordinator'), up.indexOf('\n\nOptions:')).split('\n');
  assert.ok(
    paragraph.slice(0, -1).every((line) => line.length > 50),
    paragraph.join('|'),
  );
  assert.ok(
    up.split('\n').every((line) => line.length <= 72),
    'no line is cut by a terminal of 72 columns',
  );
  assert.ok(!up.includes('--coordinator'), 'a flag that means nothing here is accepted and not shown');
});

test('the flags of every command are accepted by every command', async () => {
  for (const flags of [['--coordinator', 'a:1'], ['--context', 'c'], ['--json'], ['--timeout', '1s'], ['-q'], ['-v']]) {
    const { exit } = await ran(['completion', 'bash', ...flags]);
    assert.equal(exit, 0, flags.join(' '));
  }
});

const wrong: { argv: string[]; says: RegExp }[] = [
  { argv: ['lss'], says: /unknown command 'lss'.*Did you mean ls\?/ },
  { argv: ['ls', '--recursiv'], says: /unknown option '--recursiv'.*Did you mean --recursive\?/ },
  { argv: ['mkdir'], says: /missing required argument 'path'/ },
  { argv: ['read', '/a', '--offset', '5XB'], says: /'5XB'.*no unit 'XB'/ },
  { argv: ['read', '/a', '--offset', '-5'], says: /negative/ },
  { argv: ['ls', '-o', 'xml'], says: /'xml'.*table, wide, json, yaml, name/ },
  { argv: ['ls', '--timeout', '5'], says: /'5'.*unit is missing/ },
  { argv: ['cp', 'a', 'b'], says: /neither side is remote/ },
  { argv: ['cp', 'a'], says: /name what to copy and where to/ },
  { argv: ['token', 'create', '--for', 'anna'], says: /user\/NAME, client\/NAME or node\/NAME/ },
  { argv: ['token', 'create'], says: /required option '--for/ },
  { argv: ['completion', 'tcsh'], says: /bash, zsh, fish/ },
  { argv: ['chmod', 'u+z', '/a'], says: /'u\+z'/ },
  { argv: ['find', '--type', 'x'], says: /--type/ },
  { argv: ['config', 'use-contxt', 'a'], says: /unknown command 'use-contxt'.*use-context/ },
  { argv: ['ls', 'a', '--sort', 'colour'], says: /name, size, time/ },
  { argv: ['version', 'surplus'], says: /too many arguments/ },
];

for (const { argv, says } of wrong) {
  test(`wrong usage ends with 2 and a hint: collective ${argv.join(' ')}`, async () => {
    const { exit, out, err } = await ran(argv);
    assert.equal(exit, 2);
    assert.match(err(), says);
    assert.equal(out(), '');
  });
}

test('without a context a command says how to get one and ends with 3', async () => {
  const { exit, err } = await ran(['ls', '/']);
  assert.equal(exit, 3);
  assert.match(err(), /collective init|collective up/);
});

test('errors are one JSON object with --json, wherever the flag stands', async () => {
  for (const argv of [
    ['--json', 'ls', '/'],
    ['ls', '/', '--json'],
    ['ls', '-o', 'json', '/'],
  ]) {
    const { exit, err } = await ran(argv);
    assert.equal(exit, 3);
    assert.equal(JSON.parse(err()).error.code, 'not_found', argv.join(' '));
  }
});

test('--no-color holds wherever it stands, and -v among joined letters', async () => {
  for (const argv of [
    ['--no-color', 'ls', '/'],
    ['ls', '--no-color', '/'],
  ]) {
    const { err } = await ran(argv, { isTTY: true });
    assert.ok(!err().includes('\u001b['), argv.join(' '));
  }
  assert.match((await ran(['ls', '-lv', '/'])).err(), /at .*context-store\.ts/);
});

test('help of a verb is the same by both spellings, and of what is no command an error', async () => {
  const [one, other] = await Promise.all([
    ran(['help', 'config', 'use-context']),
    ran(['config', 'use-context', '--help']),
  ]);
  assert.equal(one.exit, 0);
  assert.equal(one.out(), other.out());
  const none = await ran(['help', 'configg']);
  assert.equal(none.exit, 2);
  assert.match(none.err(), /unknown command 'configg'.*Did you mean config\?/);
});

test('wrong usage points at the help of the verb, and says once what is wrong', async () => {
  const { err } = await ran(['realm', 'create', '/r', '--quota', '5XB']);
  assert.match(
    err(),
    /^Error: Read '5XB' as --quota: there is no unit 'XB'.*\n {2}'collective realm create --help' shows what there is\.\n$/,
  );
});

test('version prints without a coordinator, and --version the number alone', async () => {
  assert.match((await ran(['version', '--client', '-o', 'json'])).out(), /"program": "\d+\.\d+\.\d+"/);
  assert.match((await ran(['--version'])).out(), /^\d+\.\d+\.\d+\n$/);
});

test('nothing at all shows the help and ends with 2', async () => {
  const { exit, err } = await ran([]);
  assert.equal(exit, 2);
  assert.match(err(), /Usage: collective/);
});
