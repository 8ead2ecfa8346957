/**
 * What Argo CD makes of an object with the health check of `docs/operating/kubernetes-install.md`, for tests: the text of the page,
 * run by an interpreter of Lua in JavaScript. As with Argo CD the check sees `obj` and the basic functions, and nothing of the machine.
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { assert } from '@collective/base/assert';
import { parse } from 'yaml';

const PAGE = join(import.meta.dirname, '../../../docs/operating/kubernetes-install.md');

export interface ArgoHealth {
  readonly status: string;
  readonly message: string;
}

/** The functions of fengari, which has no types, that are used here: those of Lua's C API. */
interface Fengari {
  readonly lua: {
    lua_tojsstring(state: LuaState, index: number): string;
    lua_close(state: LuaState): void;
  };
  readonly lauxlib: {
    luaL_newstate(): LuaState;
    luaL_requiref(state: LuaState, name: Uint8Array, open: unknown, isGlobal: number): void;
    /** 0: it ran; otherwise the message lies on top. */
    luaL_dostring(state: LuaState, text: Uint8Array): number;
  };
  readonly lualib: { readonly luaopen_base: unknown };
  to_luastring(text: string): Uint8Array;
}

type LuaState = object;

const require = createRequire(import.meta.url);
const { lua, lauxlib, lualib, to_luastring } = require('fengari') as Fengari;

export function argoHealth(object: { readonly kind: string; readonly status?: object | undefined }): ArgoHealth {
  const check = healthChecks().get(object.kind);
  assert(check !== undefined, `the page has a health check of ${object.kind}`);
  const program = `obj = ${luaOf(object)}
local function check()
${check}
end
local health = check()
return health.status, health.message`;
  const state = lauxlib.luaL_newstate();
  try {
    lauxlib.luaL_requiref(state, to_luastring('_G'), lualib.luaopen_base, 1);
    const failed = lauxlib.luaL_dostring(state, to_luastring(program));
    assert(failed === 0, `the health check of the page runs: ${failed === 0 ? '' : lua.lua_tojsstring(state, -1)}`);
    return { status: lua.lua_tojsstring(state, -2), message: lua.lua_tojsstring(state, -1) };
  } finally {
    lua.lua_close(state);
  }
}

/** By kind, from the first YAML below the heading. */
function healthChecks(): ReadonlyMap<string, string> {
  const [, section = ''] = readFileSync(PAGE, 'utf8').split('\n## Argo CD\n');
  const [, yaml = ''] = /```yaml\n(.*?)```/s.exec(section) ?? [];
  const data = parse(yaml) as Readonly<Record<string, string>>;
  const prefix = 'resource.customizations.health.collective.storage_';
  return new Map(Object.entries(data).map(([key, text]) => [key.replace(prefix, ''), text]));
}

/** A literal of Lua; what JSON leaves out is not there either. */
function luaOf(value: unknown): string {
  if (typeof value === 'string') return luaString(value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return `{ ${value.map(luaOf).join(', ')} }`;
  if (typeof value !== 'object' || value === null) return 'nil';
  const fields = Object.entries(value).map(([name, field]) => `[${luaString(name)}] = ${luaOf(field)}`);
  return `{ ${fields.join(', ')} }`;
}

function luaString(text: string): string {
  return `"${[...Buffer.from(text)].map((byte) => `\\${String(byte).padStart(3, '0')}`).join('')}"`;
}
