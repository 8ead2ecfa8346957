// `npm run image -- [--base IMAGE] [--sbom FILE]`: builds the container image of this tree into the docker of this machine,
// which is started where none runs. The base is the published one where its registry can be reached, else made of Debian packages.

import { parseArgs } from 'node:util';
import { ensureDocker } from '../kind/docker-daemon.ts';
import { runProgram } from '../kind/program.ts';
import { ensureProductImage } from './product-image.ts';

await runProgram(async () => {
  const { values } = parseArgs({ options: { base: { type: 'string' }, sbom: { type: 'string' } } });
  const startMs = performance.now();
  await ensureDocker(console.log);
  const { tag, bytes, content, isNew } = await ensureProductImage(console.log, {
    ...(values.base === undefined ? {} : { base: values.base }),
    ...(values.sbom === undefined ? {} : { sbomFile: values.sbom }),
  });
  const took = ((performance.now() - startMs) / 1_000).toFixed(1);
  console.log(
    `${tag} ${isNew ? 'built' : 'is there already'}: ${(bytes / 1e6).toFixed(1)} MB, content ${content}, ${took} s`,
  );
});
