/**
 * The image of this tree once more under the version that comes after it: what an upgrade goes to. Its content is the same but
 * for the version that its programs tell, so a test sees which of the two answers.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureProductImage } from '@collective/hack/image/product-image';
import { buildImage, withContext } from '@collective/hack/kind/images';
import { loadOnce } from '@collective/hack/kind/load-image';

const PACKAGE = 'cli/package.json';
const ROOT = join(import.meta.dirname, '../..');

export interface NextImage {
  readonly tag: string;
  readonly version: string;
}

/** On all nodes of the cluster. */
export async function loadNextImage(): Promise<NextImage> {
  const { tag: present, content } = await ensureProductImage(console.log);
  const manifest = JSON.parse(readFileSync(join(ROOT, PACKAGE), 'utf8')) as { version: string };
  const version = `${manifest.version}-next`;
  const tag = `collective:${version}`;
  await withContext(async (folder) => {
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...manifest, version }), { mode: 0o644 });
    const dockerfile = `FROM ${present}\nCOPY package.json /opt/collective/${PACKAGE}\nLABEL org.opencontainers.image.version="${version}"\n`;
    await buildImage(tag, dockerfile, folder);
  });
  await loadOnce(tag, `${content}-next`);
  return { tag, version };
}
