// Stands in for The Wallet Crew's script engine: runs SendEmail as the platform would, as its documentation has it.
//
// node --experimental-vm-modules connector_host.mjs CASES: CASES is a JSON file with a list of
// {script, url, constants, secret, mail: {recipient, emailTemplate, data, cultures}, email, engine}; the answer on
// stdout is a list of {error, status, requests}. The script's POSTERN_URL and further constants are set as a brand
// would. It is linked in a context of its own without what the engine lacks: such a name is a ReferenceError.
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

async function run({ script, url, constants, secret, mail, email, engine }) {
  const requests = [];
  const fetch = async (address, options) => {
    const body = typeof options.Body === 'object' ? form(options.Body) : options.Body;
    requests.push({ address, options, body });
    return SHAPES[engine ?? 'browser'](await request(address, options, body), { options, body });
  };
  const context = vm.createContext({ fetch, console: { log() {} } });
  vm.runInContext(ABSENT.map((name) => `delete globalThis.${name};`).join(''), context);
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
        return wanted === 'POSTERN-API-KEY' ? secret : '';
      });
    }, { context });
    return secrets;
  });
  await module.evaluate();
  let endpoints = {};
  module.namespace.default({ register: (name, hooks) => { endpoints[name] = hooks; } });
  const { SendEmail } = endpoints['runtime.scriptable.emailEngine'];
  const buildEmail = async (template) => (template === mail.emailTemplate ? email : undefined);
  try {
    const returned = await SendEmail(mail.recipient, mail.emailTemplate, mail.data, mail.cultures, buildEmail);
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
