// Makes TypeScript from the .proto files, CRDs and their page from the operator's API, parts of the chart, the compose files among
// the examples, the page of errors from their catalogue and the page of rules from the titles of the tests: `npm run generate` writes them,
// `npm run generate -- --check` fails when the committed output is not what its sources give. Output that this program
// did not make is removed from gen/. What is generated must run as it lies: it is type-checked with the tree's own settings
// (erasable syntax only) and then imported by the Node that runs this, which strips the types.

import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { execa } from 'execa';
import { chartFiles } from './chart.ts';
import { composeFiles } from './compose.ts';
import { crdFiles } from './crds.ts';
import { CRDS_PAGE, crdsPage } from './crds-page.ts';
import { ERRORS_PAGE, errorsPage } from './errors-page.ts';
import { environmentOfThisNode, listFiles, REPOSITORY_ROOT } from './repository.ts';
import { RULES_PAGE, rulesPage } from './rules-page.ts';

type Target = { readonly protoFolder: string; readonly outputFolder: string; readonly services: boolean };

const TARGETS: readonly Target[] = [
  { protoFolder: 'protocol/proto', outputFolder: 'protocol/src/gen', services: true },
  { protoFolder: 'coordinator/proto', outputFolder: 'coordinator/src/tables/gen', services: false },
];

const TS_PROTO_OPTIONS = [
  'esModuleInterop=true',
  'importSuffix=.ts',
  'enumsAsLiterals=true', // Node strips types but does not translate an enum.
  'env=node',
  'forceLong=number', // Our numbers stay below 2^53; ts-proto throws when one on the wire does not.
  'oneof=unions-value',
  'useOptionals=none',
  'useExactTypes=false',
  'exportCommonSymbols=false',
  'outputJsonMethods=to-only',
  'removeEnumPrefix=true',
  'unrecognizedEnum=false',
  'annotateFilesWithVersion=false',
  'useDate=false',
  'outputIndex=false',
];

const checkOnly = process.argv.includes('--check');
const scratch = mkdtempSync(join(tmpdir(), 'collective-generate-'));
try {
  process.exitCode = await run();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

async function run(): Promise<number> {
  const stale: string[] = [];
  const generated: string[] = [];
  for (const target of TARGETS) {
    const fresh = await generate(target);
    generated.push(...[...fresh.keys()].map((name) => join(REPOSITORY_ROOT, target.outputFolder, name)));
    const differing = differences(target, fresh);
    stale.push(...differing.map((name) => `${target.outputFolder}/${name}`));
    if (!checkOnly) write(target, fresh, differing);
  }
  const pages = new Map([
    ...crdFiles(),
    ...chartFiles(),
    ...composeFiles(),
    [CRDS_PAGE, crdsPage()],
    [ERRORS_PAGE, errorsPage()],
    [RULES_PAGE, rulesPage(await listFiles())],
  ]);
  for (const [page, fresh] of pages) if (refreshPage(page, fresh)) stale.push(page);
  if (checkOnly && stale.length > 0) {
    console.error(`Generated code is stale; run "npm run generate" and commit:\n  ${stale.join('\n  ')}`);
    return 1;
  }
  await proveThatItRuns(generated);
  console.log(checkOnly ? `${generated.length} generated files are up to date` : report(generated, stale));
  return 0;
}

/** True if the page was stale. */
function refreshPage(page: string, fresh: string): boolean {
  const path = join(REPOSITORY_ROOT, page);
  if (existsSync(path) && readFileSync(path, 'utf8') === fresh) return false;
  if (!checkOnly) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, fresh);
  }
  return true;
}

function report(generated: string[], changed: string[]): string {
  return [`${generated.length} generated files, ${changed.length} changed`, ...changed].join('\n  ');
}

/** Output of protoc for one target, by path below its output folder. */
async function generate(target: Target): Promise<Map<string, string>> {
  const protoFolder = join(REPOSITORY_ROOT, target.protoFolder);
  const sources = existsSync(protoFolder) ? globSync('**/*.proto', { cwd: protoFolder }).sort() : [];
  if (sources.length === 0) return new Map();
  const out = mkdtempSync(join(scratch, 'out-'));
  const options = [target.services ? 'outputServices=grpc-js' : 'outputServices=none', ...TS_PROTO_OPTIONS].join(',');
  await execa(
    process.execPath,
    [
      join(REPOSITORY_ROOT, 'node_modules/protoc/protoc.cjs'),
      `--plugin=protoc-gen-ts_proto=${join(REPOSITORY_ROOT, 'node_modules/.bin/protoc-gen-ts_proto')}`,
      `--proto_path=${protoFolder}`,
      `--ts_proto_out=${out}`,
      `--ts_proto_opt=${options}`,
      ...sources.map((source) => join(protoFolder, source)),
    ],
    { env: environmentOfThisNode(), stderr: 'inherit' },
  );
  return readTree(out);
}

function readTree(folder: string): Map<string, string> {
  const names = existsSync(folder) ? globSync('**/*.ts', { cwd: folder }).sort() : [];
  return new Map(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

function differences(target: Target, fresh: Map<string, string>): string[] {
  const committed = readTree(join(REPOSITORY_ROOT, target.outputFolder));
  const names = new Set([...fresh.keys(), ...committed.keys()]);
  return [...names].filter((name) => fresh.get(name) !== committed.get(name)).sort();
}

function write(target: Target, fresh: Map<string, string>, differing: string[]): void {
  for (const name of differing) {
    const path = join(REPOSITORY_ROOT, target.outputFolder, name);
    const text = fresh.get(name);
    if (text === undefined) {
      rmSync(path);
      continue;
    }
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}

async function proveThatItRuns(files: string[]): Promise<void> {
  if (files.length === 0) return;
  const config = join(scratch, 'tsconfig.json');
  const settings = {
    extends: join(REPOSITORY_ROOT, 'tsconfig.json'),
    compilerOptions: { typeRoots: [join(REPOSITORY_ROOT, 'node_modules/@types')] },
    include: [],
    files,
  };
  writeFileSync(config, JSON.stringify(settings));
  await execa(process.execPath, [join(REPOSITORY_ROOT, 'node_modules/typescript/bin/tsc'), '-p', config], {
    stdout: 'inherit',
    stderr: 'inherit',
  });
  for (const file of files) {
    const exported = Object.keys(await import(pathToFileURL(file).href));
    if (exported.length === 0) throw new Error(`Import ${basename(file)}: the generated module exports nothing`);
  }
}
