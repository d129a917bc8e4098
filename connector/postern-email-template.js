/**
 * Sends template names and data to Postern, which renders the mail from a template of its own. Paste it as one file
 * instead of postern-email.js; set the constants below; see "Connect your tenant" in Postern's README.
 *
 * The template must be there under the name that the platform uses: templates/mail/<name> in Postern's configuration, see
 * "Mails of your own" in the README. A mail whose template is missing, or asks for data that did not come, is refused with
 * 422, naming which. The platform does not say the recipient's language: Postern takes that of their contact, else the
 * first of the tenant's cultures.
 *
 * All of `data` travels, since the template may need any of it. When SendEmail returns, the mail is on Postern's disk.
 * When it throws, the error says what happened, whether trying again helps and where to look; it never holds the
 * address, the data or the key. `error.status` is the HTTP status, when there was one. No Idempotency-Key is sent: a
 * code that is asked for again is a new mail with the same parameters, and nothing here tells it from a repeat.
 *
 * The engine is not a browser's. If you change something: an `await` stands alone in its statement, and there are no
 * regular expressions and no `?.` (the engine's parser reads `!a?.b` as `(!a)?.b`).
 */
import { getSecret } from 'neo/secrets';

// Where the platform reaches your Postern: scheme and host, no path.
const POSTERN_URL = 'https://postern.example.com';

// The name of the secret that holds a Postern key with the scope "send".
const POSTERN_KEY_SECRET = 'POSTERN-API-KEY';
const POSTERN_KEY_SCOPES = 'scope "send"';

async function sendEmail(recipient, emailTemplate, data, cultures) {
  const key = await readKey();
  const bare = String(recipient).split('<').pop().split('>')[0];
  const what = {
    path: '/v1/emails',
    name: 'the mail',
    about: `template "${emailTemplate}"`,
    mark: 'msg_',
    again: 'Try again later, but look first whether Postern has the mail: only its answer may be lost.',
    tries: 1, // Nothing here tells a repeat from a new mail.
    hidden: [bare, recipient]
  };
  await submit(key, what, {
    recipient,
    emailTemplate,
    data: JSON.stringify(data ?? {}),
    cultures: JSON.stringify(cultures ?? [])
  });
}

export default function (context) {
  context.register('runtime.scriptable.emailEngine', { SendEmail: sendEmail });
}

// From here on, all of Postern's scripts are the same.

async function readKey() {
  let key = null;
  try {
    key = await getSecret(POSTERN_KEY_SECRET);
  } catch (error) {
    key = null; // A missing secret may throw or come back empty.
  }
  key = String(key ?? '').trim();
  if (key === '') {
    throw new Error(`Nothing was sent to Postern: the secret "${POSTERN_KEY_SECRET}" is missing or empty. `
      + `Make a key with the ${POSTERN_KEY_SCOPES} ("postern keys create") and store it under that name.`);
  }
  return key;
}

// Posts `fields` as `what` says: {path, name, about, mark, again, tries, hidden}. Values that are not text must be JSON
// text already: the engine writes nested ones as "[object Object]" into a form.
async function submit(key, what, fields) {
  const options = {
    Method: 'POST',
    Headers: { 'Content-Type': 'application/x-www-form-urlencoded', 'X-API-KEY': key },
    Body: fields,
    ThrowOnError: false
  };
  const address = `${baseUrl()}${what.path}`;
  const answer = await ask(address, options, what, what.tries);
  if (isTaken(answer, what)) {
    return;
  }
  let text = explain(answer, what);
  // Postern repeats nothing of what it was sent, but something else may have answered.
  const repeats = (value) => String(value ?? '').length > 5 && text.indexOf(String(value).slice(0, 40)) >= 0;
  if (repeats(key) || what.hidden.some(repeats)) {
    text = explain({ status: answer.status, body: {} }, what);
  }
  const failure = new Error(text);
  failure.status = answer.status > 0 ? answer.status : null;
  throw failure;
}

// Asks, and asks again at once while that may help: the engine has no timer to wait with.
async function ask(address, options, what, tries) {
  let response = null;
  let thrown = null;
  try {
    response = await fetch(address, options);
  } catch (error) {
    thrown = error ?? 'nothing'; // Nobody answered, or the engine throws for an answer all the same.
  }
  if (thrown !== null) {
    response = thrown.response ?? thrown.Response ?? thrown;
  }
  const answer = await readAnswer(response);
  if (thrown !== null) {
    answer.thrown = String(thrown.message ?? thrown.Message ?? thrown);
    answer.status = answer.status || statusIn(answer.thrown);
  }
  const isPassing = answer.status > 0 ? answer.status === 408 || answer.status >= 500 : thrown !== null;
  if (tries < 2 || !isPassing || isTaken(answer, what)) {
    return answer;
  }
  const later = await ask(address, options, what, tries - 1);
  return later;
}

// Only Postern's own 202 will do: a web server that says 200 to everything, or a firewall that says 202 with a page to
// challenge a browser, has kept nothing.
function isTaken(answer, what) {
  const id = String(answer.body.id ?? answer.body.eventId);
  return (answer.status === 202 && !answer.isPage) || id.indexOf(what.mark) === 0;
}

function baseUrl() {
  let url = POSTERN_URL;
  while (url.slice(-1) === '/') {
    url = url.slice(0, -1);
  }
  if (url.indexOf('http') !== 0 || url.indexOf('postern.example.com') >= 0) {
    throw new Error('Nothing was sent to Postern: POSTERN_URL in the script is not set. It is the address of your '
      + 'Postern, such as https://postern.your-brand.com, without a path.');
  }
  return url;
}

// The members of a response are not documented: each is looked for under its usual names.
async function readAnswer(response) {
  const headers = find(response, ['headers', 'Headers'], isThere);
  const inHeaders = find(headers, ['Retry-After', 'retry-after', 'RetryAfter'], isSeconds);
  const wait = inHeaders ?? find(headers, ['get', 'Get'], isSeconds, 'Retry-After');
  const names = ['text', 'Text', 'body', 'Body', 'content', 'Content', 'json', 'Json', 'data', 'Data'];
  const found = find(response, names, isThere);
  let body = null;
  try {
    body = await found;
  } catch (error) {
    body = null;
  }
  body = body ?? response;
  const isPage = typeof body === 'string' && body.trim().indexOf('<') === 0;
  body = parse(parse(body)) ?? {};
  const status = find(response, ['status', 'Status', 'statusCode', 'StatusCode'], isStatus);
  return { status: Number(status ?? find(body, ['status'], isStatus)), wait, body, isPage };
}

function find(object, names, fits, argument) {
  for (let i = 0; i < names.length; i += 1) {
    let value = null;
    let isFound = false;
    try {
      value = typeof object[names[i]] === 'function' ? object[names[i]](argument) : object[names[i]];
      isFound = fits(value);
    } catch (error) {
      isFound = false; // Not under this name.
    }
    if (isFound) {
      return value;
    }
  }
  return null;
}

function parse(text) {
  try {
    return typeof text === 'string' ? JSON.parse(text) : text;
  } catch (error) {
    return null; // Not JSON, so not Postern's: the status has to do.
  }
}

function isThere(value) {
  return Boolean(value);
}

function isStatus(value) {
  return Number(value) >= 100 && Number(value) < 600;
}

function isSeconds(value) {
  return Number(value) >= 0 && String(value) === String(Number(value));
}

// "Response status code does not indicate success: 422 (Unprocessable Entity)."
function statusIn(words) {
  const at = words.toLowerCase().indexOf('status');
  const numbers = at < 0 ? [] : words.slice(at).split(' ').map((word) => parseInt(word, 10));
  return numbers.filter(isStatus)[0];
}

// What happened, for good or not, and where to look.
function explain(answer, what) {
  const status = answer.status;
  const about = status > 0 ? `(HTTP ${status}, ${what.about})` : `(${what.about})`;
  if (!(status > 0) && answer.thrown) {
    return `Postern did not answer ${about}: ${harmless(answer.thrown)}. ${what.again} Check that the platform reaches `
      + 'POSTERN_URL: it answers at /livez.';
  }
  if (!(status > 0)) {
    return `Postern's answer cannot be read ${about}: the response has no status under the names this script knows. `
      + `Postern may have ${what.name}: look there, then add the right name to readAnswer.`;
  }
  const isProblem = String(answer.body.type).indexOf('/problems/') === 0;
  if (!isProblem && (status < 400 || status === 404)) {
    return `Something else than Postern answered at POSTERN_URL ${about}. Postern does not have ${what.name}; trying `
      + 'again does not help. Check POSTERN_URL: scheme and host, no path, nothing that redirects.';
  }
  const problem = isProblem ? answer.body : {};
  const errors = problem.errors ?? [];
  const fields = errors.slice(0, 5).map((error) => `${error.pointer}: ${error.detail}`);
  const more = errors.length > 5 ? `; and ${errors.length - 5} more` : '';
  const parts = [problem.title, problem.detail, fields.join('; ') + more].filter(isThere);
  const said = parts.join(': ') || 'it gave no reason';
  const lookup = problem.instance ? ` Postern's log has it as ${problem.instance}.` : '';
  if (status === 408 || status === 429 || status === 503) {
    const when = answer.wait === null || answer.wait === undefined ? 'later' : `in ${answer.wait} s`;
    return `Postern did not take ${what.name} ${about}: ${said}. Nothing was accepted: try again ${when}.${lookup}`;
  }
  if (status >= 500) {
    return `Postern, or what stands before it, failed ${about}: ${said}. ${what.again}${lookup}`;
  }
  let remedy = '';
  if (status === 401 || status === 403) {
    remedy = `Check the key in the secret "${POSTERN_KEY_SECRET}". `;
  } else if (status === 404) {
    remedy = 'POSTERN_URL holds a path: take it away. ';
  }
  return `Postern refused ${what.name} for good ${about}: ${said}. ${remedy}Trying again does not help.${lookup}`;
}

// What the engine reports, unless it may hold a part of the request.
function harmless(words) {
  const marks = ['@', '<', '=', '%40', '%3C'];
  const isSuspect = words.length > 200 || marks.some((mark) => words.indexOf(mark) >= 0);
  return isSuspect ? 'the engine reported an error' : words;
}
