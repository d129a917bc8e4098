/**
 * Sends this tenant's mails through Postern. Paste it as one file; set the constants below; see "Connect your tenant"
 * in Postern's README.
 *
 * The Wallet Crew renders the mail, Postern keeps it and carries it to your relay. When SendEmail returns, the mail is
 * on Postern's disk. When it throws, the error says what happened, whether trying again helps and where to look; it
 * never holds the address, the mail or the key. `error.status` is the HTTP status, when there was one.
 *
 * No Idempotency-Key is sent: nothing here is the same for a repeat and different for a new mail. The parameters are
 * not, since a code that is asked for again is a new mail with the same contents. So a mail that is sent again after a
 * lost answer may arrive twice.
 */
import { getSecret } from 'neo/secrets';

// Where the platform reaches your Postern: scheme and host, no path.
const POSTERN_URL = 'https://postern.example.com';

// The name of the secret that holds a Postern key with the scope "send".
const POSTERN_KEY_SECRET = 'POSTERN-API-KEY';

// Which keys of `data` are sent along: those in data_kept of your tenant's file, for example ['passId']. Postern keeps
// no others, and the mail is rendered already: personal data stays where it is.
const DATA_KEPT = [];

async function sendEmail(recipient, emailTemplate, data, cultures, buildEmail) {
  const key = await readKey();
  const email = await buildEmail(emailTemplate);
  if (!email?.Subject || !email?.Body) {
    const missing = !email ? 'nothing' : !email.Subject ? 'no Subject' : 'no Body';
    throw new Error(`Nothing was sent to Postern: buildEmail("${emailTemplate}") returned ${missing}. `
      + "Look at this template in the platform's mail settings.");
  }
  const kept = {};
  for (const name of DATA_KEPT) {
    kept[name] = data?.[name];
  }
  await submit(key, {
    recipient,
    emailTemplate,
    Subject: email.Subject,
    Body: email.Body,
    data: JSON.stringify(kept),
    cultures: JSON.stringify(cultures ?? [])
  });
}

export default function (context) {
  context.register('runtime.scriptable.emailEngine', { SendEmail: sendEmail });
}

// From here on, both of Postern's mail scripts are the same.

async function readKey() {
  let key = '';
  try {
    key = String(await getSecret(POSTERN_KEY_SECRET) ?? '').trim();
  } catch (error) {
    // A missing secret may throw or come back empty; the error says the same for both.
  }
  if (!key) {
    throw new Error(`Nothing was sent to Postern: the secret "${POSTERN_KEY_SECRET}" is missing or empty. `
      + 'Make a key with the scope "send" ("postern keys create") and store it under that name.');
  }
  return key;
}

// Values that are not text must be JSON text already: the engine writes nested ones as "[object Object]" into a form.
async function submit(key, fields) {
  if (!/^https?:\/\/[^\/\s]/.test(POSTERN_URL) || POSTERN_URL.includes('postern.example.com')) {
    throw new Error('Nothing was sent to Postern: POSTERN_URL in the script is not set. It is the address of your '
      + 'Postern, such as https://postern.your-brand.com, without a path.');
  }
  let answer;
  try {
    const response = await fetch(`${POSTERN_URL.replace(/\/+$/, '')}/v1/emails`, {
      Method: 'POST',
      Headers: { 'Content-Type': 'application/x-www-form-urlencoded', 'X-API-KEY': key },
      Body: fields,
      ThrowOnError: false
    });
    answer = await readAnswer(response);
  } catch (error) {
    // Nobody answered, or the engine throws for an answer all the same.
    answer = await readAnswer(error?.response ?? error?.Response ?? error);
    const words = String(error?.message ?? error);
    answer.status = answer.status || Number(/status\D{0,60}([1-5]\d\d)\b/i.exec(words)?.[1]);
    // What the engine says is shown only when it cannot hold a part of the request.
    answer.thrown = words.length > 200 || /[@<=]|%40|%3C/i.test(words) ? 'the engine reported an error' : words;
  }
  // Only Postern's own 202 will do: a web server that says 200 to everything has not kept the mail.
  if (answer.status === 202 || /^msg_/.test(answer.body.id)) {
    return;
  }
  const hidden = [key, fields.recipient, fields.Subject, fields.Body, /[^\s<>]+@[^\s<>]+/.exec(fields.recipient)?.[0]];
  const text = explain(answer, fields.emailTemplate);
  const tells = hidden.some((value) => value?.length > 5 && text.includes(value.slice(0, 40)));
  const error = new Error(tells ? explain({ status: answer.status, body: {} }, fields.emailTemplate) : text);
  error.status = answer.status || undefined;
  throw error;
}

// The members of a response are not documented: each is looked for under its usual names.
async function readAnswer(response) {
  const status = Number(find(response, ['status', 'Status', 'statusCode', 'StatusCode'], isStatus));
  const headers = find(response, ['headers', 'Headers'], Boolean);
  const wait = find(headers, ['Retry-After', 'retry-after', 'RetryAfter'], isSeconds)
    ?? find(headers, ['get', 'Get'], isSeconds, 'Retry-After');
  let body = response;
  try {
    const names = ['text', 'Text', 'body', 'Body', 'content', 'Content', 'json', 'Json', 'data', 'Data'];
    body = await find(response, names, Boolean) ?? response;
    for (let times = 0; times < 2 && typeof body === 'string'; times += 1) {
      body = JSON.parse(body);
    }
  } catch (error) {
    // Not JSON, so not Postern's: the status has to do.
  }
  return { status: status || Number(find(body, ['status'], isStatus)), wait, body: body ?? {} };
}

function find(object, names, fits, argument) {
  for (const name of names) {
    try {
      const value = typeof object?.[name] === 'function' ? object[name](argument) : object?.[name];
      if (fits(value)) {
        return value;
      }
    } catch (error) {
      // Not under this name.
    }
  }
  return undefined;
}

function isStatus(value) {
  return Number(value) >= 100 && Number(value) < 600;
}

function isSeconds(value) {
  return /^\d+$/.test(String(value));
}

// What happened, for good or not, and where to look.
function explain(answer, emailTemplate) {
  const status = answer.status;
  const about = `(${status ? `HTTP ${status}, ` : ''}template "${emailTemplate}")`;
  if (!status && answer.thrown) {
    return `Postern did not answer ${about}: ${answer.thrown}. Try again later, but look first whether Postern has the `
      + 'mail: only its answer may be lost. Check that the platform reaches POSTERN_URL: it answers at /livez.';
  }
  if (!status) {
    return `Postern's answer cannot be read ${about}: the response has no status under the names this script knows. `
      + 'Postern may have the mail: look there, then add the right name to readAnswer.';
  }
  const problem = /^\/problems\//.test(answer.body.type) ? answer.body : undefined;
  if (!problem && (status < 400 || status === 404)) {
    return `Something else than Postern answered at POSTERN_URL ${about}. Postern does not have the mail; trying again `
      + 'does not help. Check POSTERN_URL: scheme and host, no path, nothing that redirects.';
  }
  const errors = problem?.errors ?? [];
  const listed = errors.slice(0, 5).map((error) => `${error.pointer}: ${error.detail}`).join('; ');
  const more = errors.length > 5 ? `; and ${errors.length - 5} more` : '';
  const said = [problem?.title, problem?.detail, listed + more].filter(Boolean).join(': ') || 'it gave no reason';
  const lookup = problem?.instance ? ` Postern's log has it as ${problem.instance}.` : '';
  if (status === 408 || status === 429 || status === 503) {
    const when = answer.wait ? `in ${answer.wait} s` : 'later';
    return `Postern did not take the mail ${about}: ${said}. Nothing was accepted: try again ${when}.${lookup}`;
  }
  if (status >= 500) {
    return `Postern, or what stands before it, failed ${about}: ${said}. Look whether Postern has the mail before `
      + `trying again.${lookup}`;
  }
  const remedies = {
    401: `Check the key in the secret "${POSTERN_KEY_SECRET}". `,
    403: `Check the key in the secret "${POSTERN_KEY_SECRET}". `,
    404: 'POSTERN_URL holds a path: take it away. '
  };
  const remedy = `${remedies[status] ?? ''}Trying again does not help.`;
  return `Postern refused the mail for good ${about}: ${said}. ${remedy}${lookup}`;
}
