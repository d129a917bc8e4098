// Stands in for The Wallet Crew's script engine: runs SendEmail and the pass hooks as the platform would, as its
// documentation has it.
//
// node --experimental-vm-modules connector_host.mjs CASES: CASES is a JSON file with a list of
// {script, url, constants, secret, mail: {recipient, emailTemplate, data, cultures}, email, engine} or, instead of mail
// and email, {hook, given, now, lost}: a pass hook's name, its arguments, the engine's time and how many answers get
// lost. The answer on stdout is a list of {error, status, requests}, each request with its answer. The script's
// POSTERN_URL and further constants are set as a brand would. It is linked in a context of its own without what the
// engine lacks: such a name is a ReferenceError.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import vm from 'node:vm';

// Node's own names are not in a new context; these are part of the language there, and not of the engine.
const ABSENT = ['Intl', 'Proxy', 'WebAssembly', 'SharedArrayBuffer', 'Atomics', 'FinalizationRegistry', 'WeakRef'];

// .NET's form encoding of an object: true is True, null is empty, what is nested is lost.
function form(fields) {
  const text = (value) => {
    if (value === null || value === undefined) return '';
    if (typeof value === 'boolean') return value ? 'True' : 'False';
    return typeof value === 'object' ? '[object Object]' : String(value);
  };
  const escape = (value) => encodeURIComponent(value).replace(/%20/g, '+');
  return Object.keys(fields).map((name) => `${escape(name)}=${escape(text(fields[name]))}`).join('&');
}

function request(address, options, body) {
  return new Promise((resolve, reject) => {
    const method = options.Method ?? 'GET';
    const sent = http.request(address, { method, headers: options.Headers, agent: false }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        resolve({ status: answer.statusCode, headers: answer.headers, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    sent.setTimeout(20000, () => sent.destroy(new Error('the server does not answer')));
    sent.on('error', reject);
    sent.end(body);
  });
}

// What an engine may make of an answer: its documentation does not say.
const SHAPES = {
  browser: ({ status, headers, text }) => ({
    status,
    ok: status < 300,
    headers: { get: (name) => headers[name.toLowerCase()] ?? null },
    body: {},
    text: async () => text,
    json: async () => JSON.parse(text)
  }),
  pascal: ({ status, headers, text }) => ({
    StatusCode: status,
    IsSuccessStatusCode: status < 300,
    Headers: { 'Retry-After': [headers['retry-after']] },
    Content: text
  }),
  functions: ({ status, text }) => ({ Status: () => String(status), Body: () => text }),
  parsed: ({ status, text }) => ({ statusCode: status, body: JSON.parse(text) }),
  'status-word': ({ status, headers, text }) => ({ status: http.STATUS_CODES[status], headers, text }),
  'status-only': ({ status }) => ({ Status: status }),
  'body-only': ({ text }) => text,
  'parsed-body-only': ({ text }) => JSON.parse(text),
  unknown: ({ status }) => ({ code: { value: status } }),
  nothing: () => undefined,
  throws: ({ status, headers, text }) => {
    const shown = SHAPES.browser({ status, headers, text });
    if (status < 300) return shown;
    throw new Error(`Response status code does not indicate success: ${status} (${http.STATUS_CODES[status]}).`);
  },
  'throws-dotnet': ({ status, headers, text }) => {
    if (status < 300) return SHAPES.pascal({ status, headers, text });
    throw { Message: `Response status code does not indicate success: ${status}.`, StatusCode: status };
  },
  'throws-with-response': ({ status, headers, text }) => {
    const shown = SHAPES.browser({ status, headers, text });
    if (status < 300) return shown;
    throw Object.assign(new Error('the request failed'), { response: shown });
  },
  'throws-the-request': (answer, sent) => {
    throw new Error(`status ${answer.status} for ${JSON.stringify(sent)}`);
  }
};

// An engine whose clock stands still.
const STANDING = (now) => `{
  const Real = Date;
  globalThis.Date = class extends Real { constructor(...given) { super(...(given.length ? given : ['${now}'])); } };
}`;

async function run({ script, url, constants, secret, mail, email, engine, hook, given, now, lost }) {
  const requests = [];
  const fetch = async (address, options) => {
    const body = typeof options.Body === 'object' ? form(options.Body) : options.Body;
    const asked = { address, options, body };
    requests.push(asked);
    asked.answer = await request(address, options, body);
    if (requests.length <= (lost ?? 0)) throw new Error('the connection was reset');
    return SHAPES[engine ?? 'browser'](asked.answer, { options, body });
  };
  const context = vm.createContext({ fetch, console: { log() {} } });
  vm.runInContext(ABSENT.map((name) => `delete globalThis.${name};`).join(''), context);
  if (now) vm.runInContext(STANDING(now), context);
  let source = readFileSync(script, 'utf8');
  const edited = { ...(url === null ? {} : { POSTERN_URL: `'${url}'` }), ...constants };
  for (const [name, value] of Object.entries(edited)) {
    const line = new RegExp(`^const ${name} = .*;$`, 'm');
    if (!line.test(source)) throw new Error(`the script has no constant ${name}`);
    source = source.replace(line, () => `const ${name} = ${value};`);
  }
  const module = new vm.SourceTextModule(source, { context, identifier: script });
  await module.link((name) => {
    if (name !== 'neo/secrets') throw new Error(`the engine has no module ${name}`);
    const secrets = new vm.SyntheticModule(['getSecret'], () => {
      secrets.setExport('getSecret', async (wanted) => {
        if (secret === 'throws') throw new Error(`no such secret: ${wanted}`);
        // What our scripts ask for, and what the documentation's sample does.
        return ['POSTERN-API-KEY', 'PARTNER-API-SECRET'].includes(wanted) ? secret : '';
      });
    }, { context });
    return secrets;
  });
  await module.evaluate();
  let endpoints = {};
  module.namespace.default({ register: (name, hooks) => { endpoints[name] = hooks; } });
  const buildEmail = async (template) => (template === mail.emailTemplate ? email : undefined);
  const call = () => {
    if (hook) return endpoints['runtime.wallet.passUpdater'][hook](...given);
    const { SendEmail } = endpoints['runtime.scriptable.emailEngine'];
    return SendEmail(mail.recipient, mail.emailTemplate, mail.data, mail.cultures, buildEmail);
  };
  try {
    const returned = await call();
    return { error: null, returned: returned ?? null, requests };
  } catch (error) {
    // The whole error, as a log of the platform may write it.
    const { message, stack, status } = error;
    return { error: message, whole: `${stack} ${JSON.stringify(error)}`, status: status ?? null, requests };
  }
}

const outcomes = [];
for (const one of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  outcomes.push(await run(one));
}
process.stdout.write(JSON.stringify(outcomes));
