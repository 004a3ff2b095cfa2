<?php
// What every PHP workload of the harness answers; workload.go has the same in Go.
$path = strtok($_SERVER['REQUEST_URI'], '?');
parse_str((string) ($_SERVER['QUERY_STRING'] ?? parse_url($_SERVER['REQUEST_URI'], PHP_URL_QUERY)), $query);
$dir = getenv('WORKLOAD_DIR');

if ($path === '/healthz') {
    $sick = is_file("$dir/unhealthy");
    http_response_code($sick ? 503 : 200);
    echo $sick ? "unhealthy\n" : "ok\n";
    return true;
}
$fault = is_file("$dir/fault") ? json_decode((string) file_get_contents("$dir/fault"), true) : null;
if ($fault && in_array($fault['path'], ['', strtok($_SERVER['REQUEST_URI'], '?')], true) && mt_rand(1, 10000) <= 100 * $fault['percent']) {
    usleep(1000 * $fault['ms']);
    if ($fault['code']) {
        http_response_code($fault['code']);
    }
}
if ($path === '/slow') {
    usleep(1000 * (int) ($query['ms'] ?? 0));
}
if ($path === '/status') {
    http_response_code((int) ($query['code'] ?? 200));
}
$headers = [];
foreach ($_SERVER as $name => $value) {
    if (strncmp($name, 'HTTP_', 5) === 0) {
        $headers[strtolower(strtr(substr($name, 5), '_', '-'))] = $value;
    }
}
header('Content-Type: application/json');
echo json_encode([
    'platform' => getenv('WORKLOAD_PLATFORM'),
    'id' => getenv('WORKLOAD_ID'),
    'zone' => getenv('WORKLOAD_ZONE'),
    'pid' => getmypid(),
    'runtime' => 'php ' . PHP_VERSION . ' ' . PHP_SAPI,
    'remote' => $_SERVER['REMOTE_ADDR'] ?? '',
    'method' => $_SERVER['REQUEST_METHOD'],
    'path' => $path,
    'body' => strlen(file_get_contents('php://input')),
    'headers' => (object) $headers,
], JSON_UNESCAPED_SLASHES), "\n";
return true;
