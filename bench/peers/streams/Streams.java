import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;

/**
 * V2 inference as a Kafka Streams application with ONNX Runtime inside: one record, one run.
 *
 * <p>Arguments: bootstrap servers, application ID, request topic, reply topic, model file, threads,
 * processing guarantee, state folder. Prints "ready" once it reads.
 */
public final class Streams {
    private static final String HEAD_LENGTH = "inference-header-content-length";
    private static final ObjectMapper JSON = new ObjectMapper();

    /** A tensor of V2; only FP32, which is all that this model takes and gives. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public static final class Tensor {
        public String name;
        public long[] shape;
        public String datatype;
        public Map<String, Object> parameters;
        public float[] data;
    }

    /** A request of V2. */
    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Request {
        public Tensor[] inputs;
    }

    /** A response of V2. */
    public static final class Response {
        public String model_name = "ffnn";
        public String model_version = "1.0.0";
        public Tensor[] outputs;
    }

    private static final class Scorer extends ContextualProcessor<byte[], byte[], byte[], byte[]> {
        private final OrtEnvironment environment;
        private final OrtSession session;

        Scorer(OrtEnvironment environment, OrtSession session) {
            this.environment = environment;
            this.session = session;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            try {
                Header length = record.headers().lastHeader(HEAD_LENGTH);
                byte[] answer =
                        length == null
                                ? json(record.value())
                                : binary(record.value(), length, record.headers());
                context().forward(record.withValue(answer));
            } catch (IOException | OrtException error) {
                throw new IllegalStateException(error);
            }
        }

        private byte[] json(byte[] body) throws IOException, OrtException {
            Tensor input = JSON.readValue(body, Request.class).inputs[0];
            float[] scores = run(FloatBuffer.wrap(input.data), input.shape);
            return JSON.writeValueAsBytes(response(scores, true));
        }

        private byte[] binary(byte[] body, Header length, Headers headers)
                throws IOException, OrtException {
            int head = Integer.parseInt(new String(length.value(), StandardCharsets.US_ASCII));
            Tensor input = JSON.readValue(body, 0, head, Request.class).inputs[0];
            ByteBuffer tensor = ByteBuffer.wrap(body, head, body.length - head).slice();
            FloatBuffer numbers = tensor.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
            float[] scores = run(numbers, input.shape);
            byte[] answer = JSON.writeValueAsBytes(response(scores, false));
            byte[] value = Arrays.copyOf(answer, answer.length + 4 * scores.length);
            ByteBuffer out = ByteBuffer.wrap(value).order(ByteOrder.LITTLE_ENDIAN);
            out.position(answer.length);
            out.asFloatBuffer().put(scores);
            headers.remove(HEAD_LENGTH);
            byte[] text = Integer.toString(answer.length).getBytes(StandardCharsets.US_ASCII);
            headers.add(HEAD_LENGTH, text);
            return value;
        }

        private float[] run(FloatBuffer numbers, long[] shape) throws OrtException {
            try (OnnxTensor input = OnnxTensor.createTensor(environment, numbers, shape);
                    OrtSession.Result result = session.run(Map.of("x", input))) {
                return ((float[][]) result.get(0).getValue())[0];
            }
        }

        private static Response response(float[] scores, boolean json) {
            Tensor output = new Tensor();
            output.name = "y";
            output.shape = new long[] {1, scores.length};
            output.datatype = "FP32";
            if (json) {
                output.data = scores;
            } else {
                output.parameters = Map.of("binary_data_size", 4 * scores.length);
            }
            Response response = new Response();
            response.outputs = new Tensor[] {output};
            return response;
        }
    }

    private static Properties properties(String[] arguments) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[5]);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[6]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, arguments[7]);
        // As the others: every replica acknowledges, and batches are large enough for a backlog.
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 262144);
        String linger = System.getProperty("linger.ms");
        if (linger != null) {
            properties.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), linger);
        }
        return properties;
    }

    public static void main(String[] arguments) throws Exception {
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        OrtSession.SessionOptions options = new OrtSession.SessionOptions();
        options.setIntraOpNumThreads(1);
        options.setInterOpNumThreads(1);
        OrtSession session = environment.createSession(arguments[4], options);
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(arguments[2], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .process(() -> new Scorer(environment, session))
                .to(arguments[3], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), properties(arguments));
        CountDownLatch stopped = new CountDownLatch(1);
        streams.setStateListener(
                (now, before) -> {
                    if (now == KafkaStreams.State.RUNNING) {
                        System.out.println("ready");
                    } else if (now == KafkaStreams.State.ERROR) {
                        stopped.countDown();
                    }
                });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        stopped.await();
        System.exit(1);
    }
}
