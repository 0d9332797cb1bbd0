// Hands messages in, each when it is told to: by sendmail(1), by mail(), or over SMTP with a login or without. It runs as
// the user whose mail it is. A line of JSON and the bytes of the text on standard input; on standard output a line of
// JSON when it is taken or refused, with the times just before the message was complete and just after the answer.

class Refused extends Exception {}

function sendmail(array $mail, string $body): float
{
    $began = microtime(true);
    $pipes = [];
    $command = ['sendmail', '-i', '-f', $mail['sender'], '--', ...$mail['to']];
    $child = proc_open($command, [['pipe', 'r'], ['file', '/dev/null', 'w'], ['pipe', 'w']], $pipes);
    pour($pipes[0], $mail['headers'] . "\n" . $body);
    fclose($pipes[0]);
    $said = stream_get_contents($pipes[2]);
    if (($status = proc_close($child)) !== 0) {
        throw new Refused("sendmail(1) ended with $status: $said");
    }
    return $began;
}

function php(array $mail, string $body): float
{
    $began = microtime(true);
    if (!mail(implode(', ', $mail['to']), 'from a script', $body, rtrim($mail['headers'], "\n"), "-f '{$mail['sender']}'")) {
        throw new Refused('mail() failed');
    }
    return $began;
}

function smtp(array $mail, string $body): float
{
    $server = @stream_socket_client("tcp://{$mail['server']}", $number, $why, 60);
    if (!$server) {
        throw new Refused("cannot connect to {$mail['server']}: $why");
    }
    stream_set_timeout($server, 120);
    $talk = function (?string $command, string $wanted) use ($server) {
        if ($command !== null) {
            pour($server, "$command\r\n");
        }
        do {
            if (($line = fgets($server)) === false) {
                throw new Refused('the server has hung up');
            }
        } while (substr($line, 3, 1) === '-');
        if (!str_starts_with($line, $wanted)) {
            throw new Refused(trim($line));
        }
    };
    $talk(null, '2');
    $talk('EHLO client.test', '2');
    if ($mail['login'] !== null) {
        $talk('AUTH PLAIN ' . base64_encode("\0{$mail['login']}\0{$mail['password']}"), '2');
    }
    $talk("MAIL FROM:<{$mail['sender']}>", '2');
    foreach ($mail['to'] as $to) {
        $talk("RCPT TO:<$to>", '2');
    }
    $talk('DATA', '3');
    $text = str_replace("\n", "\r\n", "{$mail['headers']}\n$body");
    pour($server, preg_replace('/^\./m', '..', $text));
    $began = microtime(true);
    $talk('.', '2');
    pour($server, "QUIT\r\n");
    fgets($server);
    return $began;
}

function pour($stream, string $bytes): void
{
    while ($bytes !== '') {
        $written = fwrite($stream, $bytes);
        if ($written === false || $written === 0) {
            throw new Refused('nobody reads what is written');
        }
        $bytes = substr($bytes, $written);
    }
}

while (($line = fgets(STDIN)) !== false) {
    $mail = json_decode($line, true, 16, JSON_THROW_ON_ERROR);
    $body = $mail['bytes'] > 0 ? stream_get_contents(STDIN, $mail['bytes']) : '';
    $refused = $began = null;
    $opened = microtime(true);
    try {
        $began = $mail['way']($mail, $body);
    } catch (Refused $why) {
        $refused = $why->getMessage();
    }
    echo json_encode(['opened' => $opened, 'began' => $began ?? microtime(true), 'ended' => microtime(true), 'refused' => $refused]), "\n";
    flush();
}
