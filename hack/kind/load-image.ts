// `hack/node hack/kind/load-image.ts [IMAGE...]`: brings images of this machine's docker to every node of the cluster; without a
// name it is the image of this tree, which is built first.

import { ensureProductImage } from '../image/product-image.ts';
import { CLUSTER, docker, kind } from './lab.ts';
import { withLabLock } from './lab-lock.ts';
import { runProgram } from './program.ts';

/** containerd keeps it beside an image's name until another image takes that name. */
const CONTENT_LABEL = 'lab.collective.storage/content';

export async function loadImages(tags: readonly string[]): Promise<void> {
  await kind(['load', 'docker-image', '--name', CLUSTER, ...tags]);
}

/** Loads an image whose content has a name of its own, and only where that content is not there yet; answers whether it was loaded. */
export async function loadOnce(tag: string, content: string): Promise<boolean> {
  return await withLabLock('images', async () => {
    const { stdout } = await kind(['get', 'nodes', '--name', CLUSTER]);
    const nodes = String(stdout).split('\n').filter(Boolean);
    const name = tag.includes('/') ? tag : `docker.io/library/${tag}`;
    const containerd = (node: string, ...args: string[]) =>
      docker(['exec', node, 'ctr', '--namespace', 'k8s.io', 'images', ...args]);
    const shown = await Promise.all(nodes.map((node) => containerd(node, 'ls', `name==${name}`)));
    if (shown.every(({ stdout }) => String(stdout).includes(`${CONTENT_LABEL}=${content}`))) return false;
    await loadImages([tag]);
    await Promise.all(nodes.map((node) => containerd(node, 'label', name, `${CONTENT_LABEL}=${content}`)));
    return true;
  });
}

if (import.meta.main) {
  await runProgram(async () => {
    const tags = process.argv.slice(2);
    if (tags.length > 0) {
      await loadImages(tags);
      console.log(`loaded ${tags.join(', ')}`);
    } else {
      const { tag, content } = await ensureProductImage(console.log);
      console.log(`${tag} ${(await loadOnce(tag, content)) ? 'loaded' : 'is on all nodes already'}`);
    }
  });
}
