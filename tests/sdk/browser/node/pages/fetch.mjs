// Requests without an SDK, one after the other, and what a page sees of their answers.

async function ask({ url, ...init }) {
  try {
    const response = await fetch(url, init);
    return { status: response.status, headers: Object.fromEntries(response.headers), body: await response.text() };
  } catch (error) {
    return { error: String(error) };
  }
}

export async function run(requests) {
  const answers = [];
  for (const request of requests) answers.push(await ask(request));
  return answers;
}
