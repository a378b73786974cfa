// node webassembly.mjs PACKAGE TREE SCRIPT: one life of a board on MicroPython's WebAssembly port, unpacked in PACKAGE. Its
// files are those below TREE, before it and after it; SCRIPT is what it runs.
import fs from "fs";
import path from "path";

const [folder, tree, script] = process.argv.slice(2).map((name) => path.resolve(name));
process.chdir(folder);
const { loadMicroPython } = await import(path.join(folder, "micropython.mjs"));
const board = await loadMicroPython({ heapsize: 1024 * 1024, linebuffer: true, stdout: (line) => console.log(line) });
const { FS } = board;
const NUMBERS = { 20: 17, 31: 21, 44: 2, 54: 20, 55: 39 }; // WASI's of errors, which the port hands on: other ports have these
const NOT_OURS = ["dev", "home", "proc", "tmp"];

function setNumbers() {
  const number = { set(n) { this.number = NUMBERS[n] ?? n; }, get() { return this.number; } };
  Object.defineProperty(FS.ErrnoError.prototype, "errno", number);
  for (const made of Object.values(FS.genericErrors || {})) {
    const n = made.errno;
    delete made.errno;
    made.errno = n;
  }
}

function bring(from, to) {
  for (const name of fs.readdirSync(from)) {
    const [source, target] = [`${from}/${name}`, `${to}/${name}`];
    if (fs.statSync(source).isDirectory()) {
      FS.mkdir(target);
      bring(source, target);
    } else FS.writeFile(target, fs.readFileSync(source));
  }
}

function take(from, to) {
  for (const name of FS.readdir(from || "/")) {
    if (name === "." || name === ".." || (!from && NOT_OURS.includes(name))) continue;
    const [source, target] = [`${from}/${name}`, `${to}/${name}`];
    if (FS.isDir(FS.stat(source).mode)) {
      fs.mkdirSync(target);
      take(source, target);
    } else fs.writeFileSync(target, FS.readFile(source));
  }
}

setNumbers();
bring(tree, "");
board.runPython(fs.readFileSync(script, "utf8"));
fs.rmSync(tree, { recursive: true });
fs.mkdirSync(tree);
take("", tree);
