// Java's own HttpClient, which offers HTTP/2 and writes forms by hand. Arguments: the server, a picture, a recording.

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;

public class JavaClient {
    static final HttpClient client = HttpClient.newHttpClient();
    static final String boundary = "----JavaBoundary" + UUID.randomUUID();

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static List<byte[]> form(Map<String, String> fields, String name, byte[] content) {
        List<byte[]> parts = new ArrayList<>();
        fields.forEach((field, value) -> parts.add(utf8("--" + boundary + "\r\nContent-Disposition: form-data; name=\""
            + field + "\"\r\n\r\n" + value + "\r\n")));
        parts.add(utf8("--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name
            + "\"\r\nContent-Type: application/octet-stream\r\n\r\n"));
        parts.add(content);
        parts.add(utf8("\r\n--" + boundary + "--\r\n"));
        return parts;
    }

    static void post(String what, String url, String type, BodyPublisher body, boolean waits)
            throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).header("Content-Type", type)
            .expectContinue(waits).POST(body).build();
        HttpResponse<String> answer = client.send(request, BodyHandlers.ofString());
        System.out.println(what + "\t" + answer.statusCode() + "\t" + answer.version() + "\t" + answer.body());
    }

    public static void main(String[] arguments) throws Exception {
        String base = arguments[0];
        byte[] picture = Files.readAllBytes(Path.of(arguments[1]));
        byte[] recording = Files.readAllBytes(Path.of(arguments[2]));
        String type = "multipart/form-data; boundary=" + boundary;
        List<byte[]> verify = form(Map.of("confidence_threshold", "1.0", "memo", "강남점"), "컵 사진.jpg", picture);
        byte[] whole = new byte[verify.stream().mapToInt(part -> part.length).sum()];
        int at = 0;
        for (byte[] part : verify) {
            System.arraycopy(part, 0, whole, at, part.length);
            at += part.length;
        }
        post("length", base + "/verify-beverage", type, BodyPublishers.ofByteArray(whole), false);
        // the length is not known: chunks
        post("chunks", base + "/verify-beverage", type, BodyPublishers.ofByteArrays(verify), false);
        post("stream", base + "/verify-beverage/", type,
            BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(whole)), false);
        post("waits", base + "/verify-beverage", type, BodyPublishers.ofByteArray(whole), true);
        post("speech", base + "/transcribe", type,
            BodyPublishers.ofByteArrays(form(Map.of("language", "ko_KR", "backend", ""), "회의 녹음.wav", recording)), false);
        post("job", base + "/api/upload-video/process-video", "application/json; charset=utf-8",
            BodyPublishers.ofString("{\"job_id\": \"a/b\", \"video_url\": \"https://example.com/컵.mp4\"}"), false);
        HttpRequest head = HttpRequest.newBuilder(URI.create(base + "/health"))
            .method("HEAD", BodyPublishers.noBody()).build();
        System.out.println("head\t" + client.send(head, BodyHandlers.ofString()).statusCode());
    }
}
